"""Early masks: what would be pruned of a network at some point of its training, by each kind of unit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Protocol

import torch
from torch import Tensor

from sparsify.axes import Axis, axes
from sparsify.axes.resize import Keep
from sparsify.errors import PassError
from sparsify.groups import Group, groups_of
from sparsify.norms import batch_norms
from sparsify.observation.calibration import Calibration
from sparsify.pass_manager import PassManager
from sparsify.program import Program
from sparsify.pruning.choice import chosen
from sparsify.pruning.floors import floors
from sparsify.pruning.reference import member_masks
from sparsify.pruning.scoring import group_scores
from sparsify.pruning.selection import Goal, Selection
from sparsify.pruning.widths import Widths
from sparsify.spec import nearest
from sparsify.task import Task
from sparsify.tickets.coefficients import Coefficients, readers
from sparsify.tickets.early_options import EarlyOptions

__all__ = ["Drawing", "drawing"]

_MOST = 0.9  # of a group that may go, as in channel-prune
_KINDS = ("channels", "heads", "kv-groups", "conv-groups")  # as in channel-prune


class Drawing(Protocol):
    """Draws masks of one kind of unit from a network that is being trained.

    Attributes:
        program: what is trained while masks are drawn.
        penalized: the parameters that get an L1 penalty.
    """

    program: Program
    penalized: tuple[str, ...]

    def mask(self, trained: Program) -> Tensor:
        """Return one flat mask of all units, True for each that would stay now."""

    def masks(self, trained: Program) -> Mapping[str, Tensor]:
        """Return the masks of the parameters that belong to it."""

    def plain(self, trained: Program) -> Program:
        """Return what was trained without what was only there for the search."""

    def record(self, trained: Program) -> dict[str, Any]:
        """Return what a report should tell of the mask."""


def drawing(program: Program, task: Task, options: EarlyOptions, seed: int) -> Drawing:
    """Return what draws masks of the unit that the options say.

    Raises:
        PassError: the program has no such units.
    """
    kinds: dict[str, Callable[[Program, Task, EarlyOptions, int], Drawing]]
    kinds = {"channels": _Channels, "weights": _Weights, "heads": _Heads}
    return kinds[options.unit](program, task, options, seed)


def _scales(program: Program) -> tuple[str, ...]:
    """Return the names of the scales of batch norms."""
    names = [str(getattr(node.args[1], "target", "")) for node in batch_norms(program)]
    return tuple(name for name in dict.fromkeys(names) if name in program.parameters)


class _Weights:
    """Single weights, chosen as `weight-prune` does."""

    def __init__(self, program: Program, task: Task, options: EarlyOptions, seed: int) -> None:
        self.program, self.penalized = program, _scales(program)
        self._task, self._seed = task, seed
        words = [
            f"sparsity={options.sparsity!r}",
            f"criterion={options.chosen_criterion}",
            f"batches={options.batches}",
        ]
        words.append(f"scope={'layer' if options.chosen_scope == 'uniform' else 'global'}")
        words += [f"protect={','.join(options.protect)}"] if options.protect else []
        self._spec = f"weight-prune:{','.join(words)}"

    def masks(self, trained: Program) -> Mapping[str, Tensor]:
        return PassManager([self._spec], asked="early-bird").run(trained, task=self._task, seed=self._seed).masks

    def mask(self, trained: Program) -> Tensor:
        found = self.masks(trained)
        return torch.cat([found[name].flatten() for name in sorted(found)])

    def plain(self, trained: Program) -> Program:
        return trained

    def record(self, trained: Program) -> dict[str, Any]:
        masks = self.masks(trained)
        return {"layers": {name: f"{mask.numel()} -> {int(mask.sum())}" for name, mask in masks.items()}}


class _Groups(ABC):
    """Whole indices of groups, chosen as `channel-prune` does; groups that masking does not remove stay whole."""

    def __init__(self, program: Program, options: EarlyOptions) -> None:
        self._options = options
        self._axes = axes(program)
        self._all = [group for group in groups_of(self._axes) if not group.frozen and group.kind in _KINDS]
        self._groups: list[Group] = []

    def _choose_from(self, groups: Sequence[Group], otherwise: str) -> None:
        """Search among some groups, but for those that are protected."""
        for pattern in self._options.protect:
            names = [name for group in self._all for name in _names(group)]
            if not any(fnmatchcase(name, pattern) for name in names):
                hint = nearest(pattern, names)
                raise PassError(f"early-bird: protect={pattern} matches no group{hint}. `sparsify inspect` lists them.")
        self._groups = [group for group in groups if group.exact and not self._protected(group)]
        if not self._groups:
            raise PassError(f"early-bird: {otherwise}")

    def _protected(self, group: Group) -> bool:
        return any(fnmatchcase(name, pattern) for name in _names(group) for pattern in self._options.protect)

    @abstractmethod
    def _scores(self, trained: Program) -> Mapping[Axis, Tensor]:
        """Score the indices of every group."""

    def _keep(self, trained: Program) -> Keep:
        allowed = floors(self._groups, round_to=1, max_sparsity=max(_MOST, self._options.sparsity), minimum=1)
        goal = Goal("sparsity", self._options.sparsity)
        selection = Selection(allowed, Widths(self._axes), goal, self._options.chosen_scope)
        return selection.choose(self._scores(trained), share=1)

    def mask(self, trained: Program) -> Tensor:
        keep = self._keep(trained)
        whole = (torch.ones(group.size, dtype=torch.bool) for group in self._groups)
        return torch.cat([keep.get(group.axis, full) for group, full in zip(self._groups, whole, strict=True)])

    def masks(self, trained: Program) -> Mapping[str, Tensor]:
        return member_masks(self._axes, self._keep(trained))

    def record(self, trained: Program) -> dict[str, Any]:
        keep = self._keep(trained)
        sizes = {group.name: int(keep[group.axis].sum()) for group in self._groups if group.axis in keep}
        chosen_from = {group.name for group in self._groups}
        return {
            "groups": {group.name: f"{group.size} -> {sizes.get(group.name, group.size)}" for group in self._groups},
            "left_alone": [group.name for group in self._all if group.name not in chosen_from],
        }


class _Channels(_Groups):
    """Channels behind batch norms, by |γ|, or by another criterion."""

    def __init__(self, program: Program, task: Task, options: EarlyOptions, seed: int) -> None:
        super().__init__(program, options)
        self.program, self.penalized = program, _scales(program)
        self._calibration = Calibration(task, options.batches, seed)
        self._criterion = chosen(options.chosen_criterion, "channels", program, self._calibration)
        groups = self._all
        if options.criterion is None:
            groups = [group for group in groups if {item.parameter for item in group.members} & {*self.penalized}]
        self._choose_from(groups, (
            "there is no group of channels behind a batch norm that may be pruned. unit=weights goes by the weights, "
            "unit=heads by coefficients of heads and neurons, and criterion=filter-norm takes channels without norms."
        ))  # fmt: skip

    def _scores(self, trained: Program) -> Mapping[Axis, Tensor]:
        found = replace(self._axes, program=trained)
        calibration = replace(self._calibration, known={})  # what was measured before is not true any more
        return group_scores(found, self._groups, {}, self._criterion, calibration)

    def plain(self, trained: Program) -> Program:
        return trained


class _Heads(_Groups):
    """Heads of attention and neurons between two layers, by coefficients that are trained with the weights."""

    def __init__(self, program: Program, task: Task, options: EarlyOptions, seed: int) -> None:
        super().__init__(program, options)
        read = readers(program, self._all)
        if not any(group.kind in ("heads", "kv-groups") and read[group.name] for group in self._all):
            raise PassError(
                "early-bird: unit=heads finds no attention head that may be pruned. unit=channels goes by batch norms, "
                "unit=weights by the weights; `sparsify inspect MODEL` lists the groups."
            )
        self._choose_from([group for group in self._all if read[group.name]], "protect= leaves no head and no neuron.")
        self._coefficients = Coefficients.on(program, self._groups)
        self.program, self.penalized = self._coefficients.program, tuple(self._coefficients.names.values())

    def _scores(self, trained: Program) -> Mapping[Axis, Tensor]:
        found = self._coefficients.magnitudes(trained)
        return {group.axis: found[group.name] for group in self._groups}

    def plain(self, trained: Program) -> Program:
        return self._coefficients.folded(trained)


def _names(group: Group) -> list[str]:
    """Return the names that a group can be protected by: its own, and those of its parameters and their modules."""
    parameters = dict.fromkeys(member.parameter for member in group.members)
    return [group.name, *parameters, *dict.fromkeys(name.rpartition(".")[0] for name in parameters)]
