"""Coding: what weights and masks take in bits."""
