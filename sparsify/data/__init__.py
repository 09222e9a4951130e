"""Readers of data sets in their usual formats, for the built-in tasks: without downloads, and no file's code runs."""
