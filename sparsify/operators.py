"""Registering: the operators are known to torch once their modules are imported."""

from __future__ import annotations

import importlib

__all__ = ["OPERATORS", "register_operators"]

OPERATORS = ("bitmask_linear", "block_linear", "index_linear", "nm_linear")  # with sparse weights
_OTHERS = ("orthogonal", "parameter", "seeded")


def register_operators() -> None:
    """Let torch know sparsify's operators: `torch.export.load` needs them to read a program that has such.

    `sparsify.load` does this itself.
    """
    for name in (*OPERATORS, *_OTHERS):
        importlib.import_module(f"sparsify.kernels.{name}")
