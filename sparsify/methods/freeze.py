"""Freezing from the start: few weights are trained, the others stay at values that a seed gives again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from sparsify.batches import epoch_length
from sparsify.errors import OptionError, PassError, UsageError
from sparsify.freezing import DrawInit, frozen, redrawn, thawed
from sparsify.naming import first_are
from sparsify.pass_manager import PassManager
from sparsify.program import Program
from sparsify.pruning.amounts import Allocation
from sparsify.schedules import parse_steps
from sparsify.task import Task
from sparsify.training.frozen_decay import decaying, settled
from sparsify.training.train import Trained
from sparsify.training.train_options import TrainOptions
from sparsify.training.work import Work

__all__ = ["Freeze"]

Start: TypeAlias = Literal["given", "torch", "kaiming", "xavier", "sign"]

_CRITERIA = {"freezenet": "snip", "zhou": "magnitude", "fish": "fisher"}
_SCOPES = {"zhou": "layer"}


@dataclass(frozen=True)
class Freeze(TrainOptions):
    """Train a small part of the weights; freezenet and zhou from weights drawn anew, fish from those that there are.

    freezenet chooses by SNIP before the training, and the rest stays where the seed put it. zhou trains all weights
    first and keeps those that end up largest; these go back to their start, and each of the others is frozen there
    too, or at zero if the training moved it towards zero; then the kept ones are trained. fish trains the weights with
    the highest Fisher information, and chooses them again on the way: what leaves them stays where it is.

    Attributes:
        steps: length of a training, `500it` or `10ep`; zhou has two.
        method: freezenet, zhou or fish.
        sparsity: which fraction of the weights is frozen.
        criterion: what chooses; snip for freezenet, magnitude for zhou, fisher for fish.
        scope: global ranks the weights of all layers together, layer those of each; layer for zhou, and else what the
            criterion allows, as in the pass.
        allocation: how much of each layer is frozen instead, as in the pass.
        init: how weights are drawn anew, from the run's seed: torch, kaiming, xavier or sign; given keeps those of
            the program. What freezenet freezes is then stored, as with zhou and fish; else the seed gives it again.
        decay: weight decay of what is frozen, too (freezenet): it goes the way of a weight without a gradient.
        every: of fish, steps between choices, `100it` or `1ep`; without it they stay. Momentum starts again there.
        first: dense trains layers that read the model's inputs as a whole.
        last: dense trains layers whose results are outputs as a whole.
        protect: names or patterns of modules and parameters that are trained as a whole.

    Reference: Wimmer et al., "FreezeNet: Full Performance by Reduced Storage Costs", 2020; Zhou et al.,
    "Deconstructing Lottery Tickets: Zeros, Signs, and the Supermask", 2019; Sung et al., "Training Neural Networks
    with Fixed Sparse Masks", 2021.

    Raises:
        UsageError: a value is out of its range, or the method does not take an option.
    """

    steps: str = "10ep"
    method: Literal["freezenet", "zhou", "fish"] = "freezenet"
    sparsity: float = 0.9
    criterion: str | None = None
    scope: Literal["global", "layer"] | None = None
    allocation: Allocation | None = None
    init: Start | None = None
    decay: bool = False
    every: str | None = None
    first: Literal["prune", "dense"] = "prune"
    last: Literal["prune", "dense"] = "prune"
    protect: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.sparsity < 1:
            raise UsageError(f"freeze: sparsity={self.sparsity} is not between 0 and 1.")
        if self.decay and (self.method != "freezenet" or not self.weight_decay):
            raise UsageError("freeze: decay=yes is of method=freezenet, and needs a weight_decay=.")
        if self.every is not None and (self.method != "fish" or parse_steps(self.every, 1) < 1):
            raise UsageError(f"freeze: every={self.every} is the pace of method=fish, at least 1it.")
        if self.method == "fish" and self.init not in (None, "given"):
            raise UsageError(f"freeze: method=fish trains the weights that there are; leave out init={self.init}.")
        self._manager(None)  # whatever else is wrong

    def retrain(self, program: Program, task: Task, *, seed: int, work: Work) -> Trained:
        """Choose, freeze and train."""
        if program.masks or program.frozen:
            names = first_are([*program.masks, *program.frozen])
            raise PassError(f"freeze: {names} masked or frozen already: it takes dense weights.")
        if parse_steps(self.steps, lambda: epoch_length(task)) < 1:
            raise OptionError("freeze: without a step nothing is trained; give more steps=.")
        drawn = self._drawn_from(seed)
        if drawn is not None:
            program = redrawn(program, drawn, self._init)
        way = {"freezenet": self._freezenet, "zhou": self._zhou, "fish": self._fish}[self.method]
        trained = way(program, task, seed, work)
        masks = trained.program.frozen
        counts = {"freeze": self.method, "weights": sum(mask.numel() for mask in masks.values()),
                  "trained": sum(int(mask.sum()) for mask in masks.values())}  # fmt: skip
        return replace(trained, record={**trained.record, **counts, "seed_of_weights": drawn})

    def _freezenet(self, program: Program, task: Task, seed: int, work: Work) -> Trained:
        fixed = self._frozen(program, task, seed)
        if not self.decay:
            return work.train("freezenet", fixed, task, self, seed=seed)
        trained = work.train("freezenet", decaying(fixed), task, self, seed=seed)
        program, factor = settled(trained.program)
        return replace(trained, program=program, record={"decayed_to": factor})

    def _zhou(self, program: Program, task: Task, seed: int, work: Work) -> Trained:
        dense = work.train("dense", program, task, replace(self, compact=False), seed=seed)
        masks = self._masks(dense.program, task, seed)
        start, end = ({name: p.parameters[name].detach() for name in masks} for p in (program, dense.program))
        zeros = {name: ~mask & (end[name].abs() < start[name].abs()) for name, mask in masks.items()}
        values = {name: torch.where(zeros[name], 0.0, start[name]) for name in masks}
        begun = replace(program, parameters={**program.parameters, **values})
        trained = work.train("zhou", frozen(begun, masks), task, self, seed=seed)
        return replace(trained, losses=(*dense.losses, *trained.losses),
                       record={"zeros": sum(int(zero.sum()) for zero in zeros.values())})  # fmt: skip

    def _fish(self, program: Program, task: Task, seed: int, work: Work) -> Trained:
        steps = parse_steps(self.steps, lambda: epoch_length(task))
        every = steps if self.every is None else parse_steps(self.every, lambda: epoch_length(task))
        losses: tuple[float, ...] = ()
        curve: tuple[dict[str, Any], ...] = ()
        start = {name: value.detach() for name, value in program.parameters.items()}
        for number, first in enumerate(range(0, steps, every)):
            fixed = self._frozen(thawed(program), task, seed)
            last = min(first + every, steps)
            trained = work.train(f"fish {number}", fixed, task, self, seed=seed, span=(first, last))
            program, losses, curve = trained.program, losses + trained.losses, curve + trained.curve
        final = thawed(program).parameters
        moved = sum(int((final[name].detach() != start[name]).sum()) for name in program.frozen)
        record = {"moved": moved, "choices": -(-steps // every)}
        return replace(trained, losses=losses, curve=curve, record=record)

    def _frozen(self, program: Program, task: Task, seed: int) -> Program:
        manager = self._manager(self._drawn_from(seed))
        return replace(manager.run(program, task=task, seed=seed), history=program.history)

    def _masks(self, program: Program, task: Task, seed: int) -> Mapping[str, Tensor]:
        return self._manager(None).run(program, task=task, seed=seed).frozen

    def _manager(self, seed: int | None) -> PassManager:
        words = [f"sparsity={self.sparsity!r}", f"criterion={self.criterion or _CRITERIA[self.method]}",
                 f"first={self.first}", f"last={self.last}"]  # fmt: skip
        scope = self.scope or (None if self.allocation else _SCOPES.get(self.method))
        words += [f"{name}={value}" for name, value in (("scope", scope), ("allocation", self.allocation)) if value]
        words += [f"protect={','.join(self.protect)}"] if self.protect else []
        words += [f"base=seed,seed={seed},init={self._init}"] if seed is not None else []
        return PassManager([f"freeze:{','.join(words)}"], asked="freeze")

    @property
    def _init(self) -> DrawInit:
        return "torch" if self.init in (None, "given") else self.init  # type: ignore[return-value]

    def _drawn_from(self, seed: int) -> int | None:
        """Return the seed that all weights are drawn from, or None where those of the program stay."""
        given = self.method == "fish" or self.init == "given"
        return None if given else seed
