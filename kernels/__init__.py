"""Sparse kernels: one operation per file, with its reference, Triton kernel and dispatch."""
