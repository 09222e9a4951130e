"""Which constants of an ONNX file are weights, and what they are called in the module."""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

import numpy as np
from torch import fx

from sparsify.onnx_in.graph import OnnxGraph, Step

__all__ = ["BUFFERS", "identifiers", "is_role", "state_names", "weights_of"]

BUFFERS = "sparsify.buffers"
"""The entry of the metadata that names constants which are not trained, in files that sparsify wrote."""

_COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Range", "OneHot")
_FIXED = {
    "BatchNormalization": (3, 4),
    "Clip": (1, 2),
    "Pad": (1, 2),
    "Pow": (1,),
    "Resize": (1, 2, 3),
    **dict.fromkeys(_COMPARISONS, tuple(range(8))),
}
_LAYER = {1: "weight", 2: "bias"}
_ROLES = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul", "sparsify.Linear"), _LAYER),
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "GroupNormalization"), _LAYER),
    "BatchNormalization": {1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"},
    "Gather": {0: "weight"},
    "PRelu": {1: "weight"},
    "RMSNormalization": {1: "weight"},
}
_HUGE = 1e30  # a number beyond this stands for minus infinity, in masks
_NAMELESS = re.compile(r"onnx::\w+|val_\d+|.*[Cc]onstant.*")  # names that exporters make up
_TAKEN = frozenset((*dir(fx.GraphModule), "training", "meta"))  # what a module has already


def is_role(operator: str, index: int) -> bool:
    """Whether an input of an operator is the weight or bias of a layer."""
    return operator in ("LSTM", "GRU", "RNN") or index in _ROLES.get(operator, ())


def weights_of(graph: OnnxGraph) -> set[str]:
    """Return the names of the constants that are trained.

    That is every array of floats that is finite and more than a number, unless it reaches the outputs only as a bound,
    a statistic or a size. A single number is a weight only where a layer has it as its own. Where sparsify wrote the
    file, it says what is none.
    """
    try:
        none = set(json.loads(graph.metadata.get(BUFFERS, "[]")))
    except (ValueError, TypeError):
        none = set()
    found: set[str] = set()
    wanted = set(graph.outputs)
    for step in reversed(graph.steps):
        if wanted.isdisjoint(step.outputs):
            continue
        for index, name in enumerate(step.inputs):
            if name is None or index in _FIXED.get(step.type, ()):
                continue
            wanted.add(name)
            array = graph.constants.get(name)
            if array is None or name in none or name in found or array.dtype.kind != "f" or not array.ndim:
                continue
            if (array.size > 1 or is_role(step.type, index)) and _is_finite(array):
                found.add(name)
    return found


def _is_finite(array: Any) -> bool:
    return bool(np.isfinite(array).all() and (np.abs(array) < _HUGE).all())


def identifiers(names: Iterable[str]) -> dict[str, str]:
    """Return for each name one that an argument of Python may have; all are different."""
    found: dict[str, str] = {}
    for name in names:
        clean = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "input"
        clean = f"input_{clean}" if clean[0].isdigit() or keyword.iskeyword(clean) else clean
        found[name] = _free(clean, set(found.values()))
    return found


def state_names(graph: OnnxGraph, constants: Iterable[str], reserved: Iterable[str] = ()) -> dict[str, str]:
    """Return the path in the module for each constant: its own name where that is one, or that of its layer.

    Dots stay dots, other characters become underscores. A name that an exporter made up is replaced by the scope of the
    node that reads it (`/layer1/conv/Conv` makes `layer1.conv.weight`), where it has one. Names that a module needs for
    itself, and `reserved` ones, get an underscore.
    """
    readers, never = _readers(graph), _TAKEN | set(reserved)
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in constants:
        path = name
        if _NAMELESS.fullmatch(name) and name in readers:
            path = _of_layer(*readers[name]) or name
        path = re.sub(
            r"^val_(?=\d+$)", "constant_", path
        )  # torch's exporter takes the names val_0, val_1... for itself
        parts = [re.sub(r"\W+", "_", part, flags=re.ASCII) for part in path.split(".")]
        parts = [f"{part}_" if part in never else part for part in parts if part.strip("_")]
        path = ".".join(parts) or "constant"
        path = _free(path, taken)
        if any(other.startswith(f"{path}.") or path.startswith(f"{other}.") for other in _near(path, taken)):
            path = _free(path.replace(".", "_") + "_", taken)
        taken.add(path)
        found[name] = path
    return found


def _near(path: str, taken: set[str]) -> set[str]:
    first = path.partition(".")[0]
    return {other for other in taken if other.partition(".")[0] == first}


def _readers(graph: OnnxGraph) -> Mapping[str, tuple[Step, int]]:
    found: dict[str, tuple[Step, int]] = {}
    for step in graph.steps:
        for index, name in enumerate(step.inputs):
            if name is not None:
                found.setdefault(name, (step, index))
    return found


def _of_layer(step: Step, index: int) -> str | None:
    """Return `layer1.conv.weight` for the weight of a node that is called `/layer1/conv/Conv`."""
    scopes = step.name.split("/")[1:-1] if step.name.startswith("/") else []
    role = _ROLES.get(step.type, {}).get(index)
    if not scopes or role is None:
        return None
    kept = [one for one, inner in zip(scopes, [*scopes[1:], ""], strict=True) if not inner.startswith(f"{one}.")]
    return ".".join([*kept, role])


def _free(name: str, taken: set[str]) -> str:
    return name if name not in taken else next(other for i in count(1) if (other := f"{name}_{i}") not in taken)
