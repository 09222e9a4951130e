"""Readers of data sets in their usual formats, for the built-in tasks: without downloads, and without code of a file."""
