"""Sparsify inside other tools, each behind an extra of its name."""
