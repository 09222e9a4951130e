"""Reconstruction: what is left of a layer is fitted to what the whole layer gave."""
