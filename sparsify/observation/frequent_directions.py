"""Frequent Directions: a few rows that stand for many."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["frequent_directions"]


def frequent_directions(rows: Tensor, size: int) -> Tensor:
    """Return at most `size` orthogonal rows B in the place of many rows A, so that BᵀB is nearly AᵀA.

    The rows are read once, `size + 1` at a time. No direction gains, and none loses more than the share of one row:
    0 ≤ AᵀA - BᵀB ≤ ‖A‖² / (size + 1).

    Args:
        rows: `[N, D]`.
        size: how many rows the sketch has; with D of them it is exact.

    Reference: Liberty, "Simple and Deterministic Matrix Sketching", 2013.
    """
    sketch = rows[:0]
    for part in torch.split(rows, size + 1):
        _, found, directions = torch.linalg.svd(torch.cat([sketch, part]), full_matrices=False)
        least = found[size].square() if len(found) > size else found.new_zeros(())
        shrunken = (found.square() - least).clamp_min(0).sqrt()[:size]
        sketch = shrunken[:, None] * directions[:size]
    return sketch
