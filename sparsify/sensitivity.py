"""Sensitivity: how the loss rises when one layer, or one group of channels, alone is pruned more and more."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sparsify.atomic import writing
from sparsify.axes import axes
from sparsify.digest import digest_with_data
from sparsify.errors import InputError, PassError, UsageError, first_line
from sparsify.groups import groups_of
from sparsify.observation.calibration import Calibration
from sparsify.observation.signals import group_signals
from sparsify.observation.subject import Subject
from sparsify.observation.trials import Trials
from sparsify.patterns import Unstructured
from sparsify.program import Program
from sparsify.pruning.amounts import rounded
from sparsify.pruning.candidates import candidates, matches
from sparsify.pruning.choice import chosen
from sparsify.pruning.ranking import Scored
from sparsify.pruning.scoring import group_scores
from sparsify.pruning.weight_masks import Shaper
from sparsify.pruning.weight_scores import weight_scores
from sparsify.reconstruction.outputs import output_gap
from sparsify.task import Task

__all__ = ["LEVELS", "Scan", "Unit", "read_scan", "scan", "write_scan"]

Unit: TypeAlias = Literal["weights", "channels"]
LEVELS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)


@dataclass(frozen=True)
class Scan:
    """What a scan measures.

    Attributes:
        unit: single weights of each layer, or channels of each group.
        criterion: what decides which of them go first.
        sparsities: the fractions that go.
        batches: how many training batches the loss is taken over.
        seed: of their order and of the criterion.
        subject: a digest of the program and the task, so that a scan is never continued on another model.
        quantity: what is measured: the rise of the loss, or without a task the relative change of the output.
        layers: for each parameter or group that is done, the quantity at each sparsity.
        sizes: for each of them how many weights or channels it has.
    """

    unit: Unit
    criterion: str
    sparsities: tuple[float, ...]
    batches: int
    seed: int
    subject: str
    quantity: str
    layers: Mapping[str, Sequence[float]] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)

    def is_of(self, other: Scan) -> bool:
        """Whether both measure the same, however far they are."""
        return replace(self, layers={}, sizes={}) == replace(other, layers={}, sizes={})


def scan(
    program: Program,
    task: Task | None = None,
    *,
    unit: Unit = "weights",
    criterion: str = "magnitude",
    sparsities: Sequence[float] = LEVELS,
    only: Sequence[str] = (),
    batches: int = 8,
    seed: int = 0,
    known: Scan | None = None,
    on_row: Callable[[Scan, int], None] = lambda found, rows: None,
) -> Scan:
    """Prune each layer or group alone at several sparsities and measure what that does; nothing is retrained.

    Args:
        program: is not changed.
        task: gives the loss; without it the change of the output on the example inputs is measured.
        unit: weights of layers, or channels of groups.
        criterion: what goes first.
        sparsities: the fractions that go, rising.
        only: names or patterns of modules and parameters that are scanned.
        batches: how many training batches are used.
        seed: of the data's order.
        known: an unfinished scan of the same; its rows are not measured again.
        on_row: called with the scan so far and the number of all rows, whenever one is done.

    Raises:
        UsageError: a sparsity or the number of batches is out of range.
        PassError: there is nothing to scan, the criterion lacks data, or `known` is another scan.
    """
    levels = tuple(float(level) for level in sparsities)
    if not levels or any(not 0 < level < 1 for level in levels) or sorted(set(levels)) != list(levels):
        raise UsageError(f"The sparsities of a scan rise between 0 and 1; got {', '.join(map(str, levels)) or 'none'}.")
    if batches < 1:
        raise UsageError(f"A scan needs at least one batch, not {batches}.")
    calibration = Calibration(task, batches, seed)
    calibration.check(program, "inputs", criterion)
    quantity = "relative change of the output" if task is None else "rise of the loss"
    found = Scan(unit, criterion, levels, batches, seed, digest_with_data(program, calibration), quantity)
    if known is not None:
        if not known.is_of(found):
            raise PassError(
                "The file holds a scan of another model, task or setting. Remove it, or name another with -o."
            )
        found = known
    names, rows = (_layers if unit == "weights" else _groups)(program, calibration, found, only)
    for name, size, measure in rows:
        values = [measure(level) for level in levels]
        if not all(math.isfinite(value) for value in values):
            raise PassError(f"The loss is not finite with {name} pruned. Check the data, the loss and the model.")
        found = replace(found, layers={**found.layers, name: values}, sizes={**found.sizes, name: size})
        on_row(found, len(names))
    return found


_Row: TypeAlias = tuple[str, int, Callable[[float], float]]


def _layers(
    program: Program, calibration: Calibration, found: Scan, only: Sequence[str]
) -> tuple[Sequence[str], Iterator[_Row]]:
    """Return the names of the weights, and for each that is not known how to measure it."""
    layouts = candidates(program, only=only).layouts
    criterion = chosen(found.criterion, "weights", program, calibration)
    shaper = Shaper(Unstructured(), {name: program.parameters[name].shape for name in layouts}, layouts)
    masks = {name: mask for name, mask in program.masks.items() if name in layouts}
    left = [name for name in layouts if name not in found.layers]
    model = program.module(copy=False)
    base = None if calibration.task is None else _loss(model, program, calibration, {})

    def rows() -> Iterator[_Row]:
        for scored in weight_scores(program, left, criterion, calibration, masks):
            size = shaper.size(scored.name)

            def measure(level: float, scored: Scored = scored, size: int = size) -> float:
                mask = shaper.apart([scored], {scored.name: rounded(level * size)})[scored.name]
                whole = program.parameters[scored.name].detach()
                weight = torch.where(mask.to(whole.device), whole, 0.0)
                if base is None:
                    other = replace(program, parameters={**program.parameters, scored.name: weight})
                    return output_gap(program, other, calibration)
                return _loss(model, program, calibration, {scored.name: weight}) - base

            yield scored.name, size, measure

    return list(layouts), rows()


def _loss(model: nn.Module, program: Program, calibration: Calibration, other: Mapping[str, Tensor]) -> float:
    """Return the mean loss over the data with some parameters replaced."""
    with torch.no_grad():
        losses = [float(loss) for _, loss in calibration.run(_Replaced(model, other), program) if loss is not None]
    return sum(losses) / len(losses)


class _Replaced(nn.Module):
    """A model that is called with some of its parameters replaced."""

    def __init__(self, model: nn.Module, other: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._model, self._other = model, dict(other)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return functional_call(self._model, self._other, args, kwargs)


def _groups(
    program: Program, calibration: Calibration, found: Scan, only: Sequence[str]
) -> tuple[Sequence[str], Iterator[_Row]]:
    """Return the names of the groups, and for each that is not known how to measure it."""
    known = axes(program)
    groups = [group for group in groups_of(known) if not group.frozen]
    groups = [g for g in groups if not only or any(matches(member.parameter, only) for member in g.members)]
    seen = {signal.key for signal in group_signals(known, groups) if signal.places}
    groups = [group for group in groups if group.name in seen]
    if not groups:
        raise PassError("There is no group of channels to scan. `sparsify inspect MODEL` lists the groups.")
    left = [group for group in groups if group.name not in found.layers]

    def rows() -> Iterator[_Row]:
        criterion = chosen(found.criterion, "channels", program, calibration)
        scores = group_scores(known, left, {}, criterion, calibration)
        trials = Trials(Subject(program, calibration, [], group_signals(known, left)))
        for group in left:
            order = scores[group.axis].argsort(stable=True)

            def measure(level: float, name: str = group.name, order: Tensor = order) -> float:
                gone = {name: order[: rounded(level * len(order))]}
                rises = [run.rise(gone) for run in trials.runs()]
                return sum(rises) / len(rises)

            yield group.name, group.size, measure

    return [group.name for group in groups], rows()


def read_scan(path: str | Path) -> Scan:
    """Read a scan.

    Raises:
        InputError: the file is no scan.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        return Scan(**{**found, "sparsities": tuple(found["sparsities"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        why = first_line(error)
        raise InputError(f"{path} is no scan of `sparsify sensitivity` ({why}); name another file.") from error


def write_scan(path: str | Path, found: Scan) -> None:
    """Write a scan; `weight-prune` takes the file as a table."""
    with writing(path) as temporary:
        temporary.write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
