"""Registering: the operators are known to torch once their modules are imported."""

from __future__ import annotations

import importlib

__all__ = ["OPERATORS", "register"]

OPERATORS = ("bitmask_linear", "block_linear", "index_linear", "nm_linear")  # with sparse weights
_OTHERS = ("orthogonal", "parameter", "seeded")


def register() -> None:
    """Let torch know all operators, so that graphs that name them can be read."""
    for name in (*OPERATORS, *_OTHERS):
        importlib.import_module(f"sparsify.kernels.{name}")
