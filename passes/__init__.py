"""Passes: one transformation of a program per file; the file's name is the pass's name."""
