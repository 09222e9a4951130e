"""Telling what was done: as a mapping, in the terminal."""
