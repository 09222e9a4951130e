"""sparsify: a compiler for sparsity in PyTorch models.

Importing this package does not import torch; that happens when a name below is first used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsify.axes.op import axis_rule
    from sparsify.blocks import Block, blocks
    from sparsify.capture import capture
    from sparsify.cost import Cost, cost
    from sparsify.export.archive import save
    from sparsify.export.hugging_face import save_hugging_face
    from sparsify.export.onnx import export_onnx
    from sparsify.groups import Group, groups
    from sparsify.load import load
    from sparsify.loader_task import LoaderTask
    from sparsify.operators import register_operators
    from sparsify.pass_manager import Contract, Pass
    from sparsify.pipeline import Result, retrain, run
    from sparsify.program import Program
    from sparsify.task import Score, Task
    from sparsify.tickets.ticket import Ticket
    from sparsify.training.mask_controller import MaskController
    from sparsify.writing.write_back import write_back

_HOMES = {
    "Block": "blocks",
    "Contract": "pass_manager",
    "Cost": "cost",
    "Group": "groups",
    "LoaderTask": "loader_task",
    "MaskController": "training.mask_controller",
    "Pass": "pass_manager",
    "Program": "program",
    "Result": "pipeline",
    "Score": "task",
    "Task": "task",
    "Ticket": "tickets.ticket",
    "axis_rule": "axes.op",
    "blocks": "blocks",
    "capture": "capture",
    "cost": "cost",
    "export_onnx": "export.onnx",
    "groups": "groups",
    "load": "load",
    "register_operators": "operators",
    "retrain": "pipeline",
    "run": "pipeline",
    "save": "export.archive",
    "save_hugging_face": "export.hugging_face",
    "write_back": "writing.write_back",
}

__all__ = [
    "Block",
    "Contract",
    "Cost",
    "Group",
    "LoaderTask",
    "MaskController",
    "Pass",
    "Program",
    "Result",
    "Score",
    "Task",
    "Ticket",
    "axis_rule",
    "blocks",
    "capture",
    "cost",
    "export_onnx",
    "groups",
    "load",
    "register_operators",
    "retrain",
    "run",
    "save",
    "save_hugging_face",
    "write_back",
]


class _Package(ModuleType):
    """Keeps `sparsify.capture` the function, although a submodule of that name is imported (decision 002)."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("sparsify.version").__version__
    if name not in _HOMES:
        raise AttributeError(f"module 'sparsify' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sparsify.{_HOMES[name]}"), name)
    setattr(sys.modules[__name__], name, value)
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
