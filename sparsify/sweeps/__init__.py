"""Sweeps: methods x sparsities x seeds x models, each a trial that is run once, on Optuna's storage."""
