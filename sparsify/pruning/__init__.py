"""Deciding what of the groups goes: scores, widths and goals; and what removing means where masking is not enough."""
