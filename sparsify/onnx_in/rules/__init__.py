"""The rules of ONNX operators, by what they do; importing a module of this package registers its rules."""

from __future__ import annotations

import functools
import importlib
import pkgutil

__all__ = ["load"]


@functools.cache
def load() -> None:
    """Register all rules of this package."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
