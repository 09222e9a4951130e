"""Data: readers of the usual formats, without downloads, and what the tasks made of them have in common."""
