"""Observation: a program is watched while it runs on calibration data, and its channels are scaled or closed."""
