"""What a run made of every layer: sizes, zeros, multiply-accumulates, time, and how much the model needs it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from sparsify.errors import PassError
from sparsify.layers import layers
from sparsify.layout import Layout
from sparsify.lowering.raising import raised
from sparsify.module_times import REST, module_times
from sparsify.modules import Modules, Side, in_order, written_out
from sparsify.patterns import NofM, pattern_of
from sparsify.program import Program
from sparsify.pruning.zeros import FEW
from sparsify.sensitivity import Scan, scan
from sparsify.task import Task

__all__ = ["LEVEL", "LayerTable", "Row", "layer_table"]

LEVEL = 0.8
"""The sparsity at which the sensitivity of a layer is measured."""

_BATCHES = 2
_BUDGET = 20.0  # seconds that measuring sensitivities may take
_WIDE = 32  # weights; N of every M of more is how many a row keeps


@dataclass(frozen=True)
class Row:
    """One module that holds parameters.

    Attributes:
        module: its name.
        before: how it was; None where there was none.
        after: how it is; None where it is gone.
        milliseconds: how long it took before and after; None where it is not there.
        sensitivity: what pruning its weight alone costs the model before; None where that is not measured.
        pattern: in which the zeros of its weight lie, such as `2:4`, or `channels` where they are whole rows and
            columns; empty where it has none, or hardly any.
    """

    module: str
    before: Side | None
    after: Side | None
    milliseconds: tuple[float | None, float | None]
    sensitivity: float | None
    pattern: str = ""


@dataclass(frozen=True)
class LayerTable:
    """All modules, and what belongs to none.

    Attributes:
        rows: the modules in the order of the models.
        rest_macs: multiply-accumulates of operators without parameters, before and after.
        rest_milliseconds: how long those took.
        sensitivity: what the sensitivities are, in words, or why there are none.
        sparse_layers: whether the result has layers that compute with sparse kernels.
    """

    rows: list[Row]
    rest_macs: tuple[int, int]
    rest_milliseconds: tuple[float, float]
    sensitivity: str
    sparse_layers: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return found


def layer_table(before: Program, after: Program, task: Task | None = None, seed: int = 0) -> LayerTable:
    """Compare two programs module by module, and measure their times and the sensitivities of the first.

    Layers that are lowered have the shapes and zeros of dense ones; multiply-accumulates and times are their own.

    Args:
        before: the model at the start.
        after: what a run made of it.
        task: gives the loss of the sensitivities; without one it is the change of the output.
        seed: of the data's order.
    """
    plain = raised(after)
    first, second, lowered = Modules.of(before), Modules.of(plain), plain is not after
    if lowered:
        own = Modules.of(after)
        second = replace(second, macs=own.macs, rest=own.rest)
    times = module_times([written_out(program) for program in (before, after)])  # masks take time in training alone
    found, text = _sensitivities(before, task, seed)
    patterns = _patterns(plain, second)
    rows = [
        Row(
            name,
            first.side(name),
            second.side(name),
            (times[0].get(name), times[1].get(name)),
            found.get(name),
            patterns.get(name, ""),
        )
        for name in in_order(list(first.values), list(second.values))
    ]
    rest = (times[0].get(REST, 0.0), times[1].get(REST, 0.0))
    return LayerTable(rows, (first.rest, second.rest), rest, text, lowered)


def _patterns(program: Program, modules: Modules) -> dict[str, str]:
    """Return the pattern of the zeros of each layer that has some; not of single weights that happen to be zero."""
    found = {}
    for layer in layers(program):
        weight = modules.values[layer.module].get(layer.parameter)
        if weight is None:
            continue
        kept = weight != 0
        few = 0.0 if layer.parameter in program.masks else FEW
        if 0 < int((~kept).sum()) >= few * kept.numel():
            found[layer.module] = _pattern(kept, layer.layout)
    return found


def _pattern(kept: Tensor, layout: Layout) -> str:
    matrices = layout.matrices(kept)
    if bool((matrices == matrices.any(2, keepdim=True) & matrices.any(1, keepdim=True)).all()):
        return "channels"
    pattern = pattern_of(kept, layout)
    chance = isinstance(pattern, NofM) and pattern.m > _WIDE
    return "unstructured" if chance else str(pattern)


def _sensitivities(program: Program, task: Task | None, seed: int) -> tuple[Mapping[str, float], str]:
    """Prune the weights of each layer alone, unless that would take too long."""
    if task is None and program.example.synthetic:
        return {}, "not measured: the example inputs are random, and there is no task"
    watch = _Watch(_BUDGET)
    try:
        found = scan(program, task, sparsities=(LEVEL,), batches=_BATCHES, seed=seed, on_row=watch)
    except _TooLongError:
        return {}, f"not measured: it would take more than {_BUDGET:g} s; `sparsify sensitivity` takes its time"
    except PassError as error:
        return {}, f"not measured: {error}"
    modules = {layer.parameter: layer.module for layer in layers(program)}
    values: dict[str, float] = {}
    for name, (value,) in found.layers.items():
        module = modules[name]
        values[module] = max(value, values.get(module, value))
    data = "on the example inputs" if task is None else f"on {_BATCHES} training batches"
    return values, f"{found.quantity} when {LEVEL:.0%} of the layer's weights go, by magnitude, {data}"


class _TooLongError(Exception):
    """A scan was given up."""


class _Watch:
    """Gives a scan up as soon as it is seen that it would take longer than it may."""

    def __init__(self, seconds: float) -> None:
        self._start, self._budget = time.perf_counter(), seconds

    def __call__(self, found: Scan, rows: int) -> None:
        spent = time.perf_counter() - self._start
        if spent * rows / len(found.layers) > self._budget:
            raise _TooLongError
