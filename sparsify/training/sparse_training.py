"""Sparse training: what happens to masks while a program is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sparsify.coding.bits import packed, unpacked
from sparsify.errors import ContractError
from sparsify.layers import layers
from sparsify.mask_updates import MaskUpdate, Stats
from sparsify.masking import baked, with_masks
from sparsify.parallel.tensors import Whole, counts, is_sharded, laid_out_like, local, whole
from sparsify.program import Program
from sparsify.training.mask_controller import MaskController

__all__ = ["Exchange", "SparseTraining"]

_TOLD = 1000  # of the updates of one training; rules that move a weight at every step would fill the log

Exchange = dict[str, Any]
"""What an update did: `step`, `dropped`, `grown`, `kept`, `density`, `itop`, and `layers` with the density of each."""


class SparseTraining:
    """Trains with masks outside of the graph: pruned weights are zeros, so that the graph need not mask them.

    Their gradients are those of a dense network, which rules that grow weights look at. The program that comes out
    has its masks in the graph again.

    Args:
        program: with masks; those of frozen parameters stay as they are.
        rule: updates the masks; without one they stay.
        seed: of the rule.
        audit: check after every step that what is pruned is zero, and that the number of weights is right.

    Attributes:
        program: what is trained: the program with zeros for pruned weights.
        updates: how many changed the masks.
        exchanges: what they did; of very many, some.
        emptied: the weights of which nothing was left after an update, in the order in which that happened.
    """

    def __init__(self, program: Program, rule: MaskUpdate | None, seed: int, *, audit: bool = False) -> None:
        self.program = baked(program)
        self.exchanges: list[Exchange] = []
        self.updates = 0
        self.emptied: list[str] = []
        self._masks = {n: mask.clone() for n, mask in program.masks.items() if self.program.parameters[n].requires_grad}
        self._given = program
        self._rule, self._seed, self._audit = rule, seed, audit
        self._seen: dict[str, Tensor] = {}
        self._controller: MaskController | None = None
        if rule is not None:
            known = {layer.parameter: layer.layout for layer in reversed(layers(program))}
            rule.layouts = {name: known[name] for name in self._masks}

    def module(self, make: Callable[[Program], nn.Module]) -> nn.Module:
        """Return a new module that is trained; `make` makes that of a program."""
        return make(self.program)

    def forward(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass whose gradients are wanted."""
        return nullcontext()

    def attach(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Begin to train a module of the program."""
        named = dict(module.named_parameters(remove_duplicate=False))
        self._weights = {name: named[name] for name in self._masks}
        self._masks = self._laid_out(self._masks)
        if self._rule is not None:
            weights = Whole(self._weights, written=self._rule.writes)
            self._masks = self._laid_out(self._rule.start(Whole(self._masks), weights))
            weights.write_back()
        self._seen = {name: mask.clone() for name, mask in self._masks.items()}
        self._look()
        self._count = self._now
        if self._masks and not (self._rule and self._rule.keeps_pruned):
            self._controller = MaskController(self._masks, audit=self._audit)
            self._controller.attach(optimizer, module, after_steps=False)

    def looks(self, step: int, steps: int) -> bool:
        """Whether the rule looks at the gradients of a step."""
        rule = self._rule
        if rule is None or not self._masks:
            return False
        return type(rule).observe is not MaskUpdate.observe or (rule.replaces_step and rule.due(step, steps))

    def before_step(self, step: int, steps: int, rate: float) -> bool:
        """Look at the gradients of a step; return whether an update of the masks takes the place of the step."""
        rule = self._rule
        if rule is None or not self.looks(step, steps):
            return False
        stats = self._stats(step, steps, rate)
        rule.observe(stats)
        if rule.writes:
            _write_back(stats)
        if replaces := rule.replaces_step and rule.due(step, steps):
            self._update(stats)
        return replaces

    def mask_gradients(self) -> None:
        """Make the gradients of pruned weights zero: they stay what they are, and do not count for the norm of all."""
        if self._controller is not None:
            self._controller.mask_gradients()

    def after_step(self, step: int, steps: int, rate: float) -> None:
        """Update the masks behind the optimizer's step, if it is time."""
        rule = self._rule
        if rule is not None and self._masks and not rule.replaces_step and rule.due(step, steps):
            self._update(self._stats(step, steps, rate))

    def result(self, module: nn.Module) -> Program:
        """Return the program with what a module has learned, and with the masks of now."""
        learned = self.program.with_state(module)
        given = self._given
        known = replace(
            given,
            parameters={**given.parameters, **learned.parameters},
            buffers={**given.buffers, **learned.buffers},
        )
        return with_masks(known, {name: whole(mask) for name, mask in self._masks.items()})

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """The masks now."""
        return self._masks

    @property
    def density(self) -> float:
        """Which share of the weights that have masks is kept now; 1 where nothing has one."""
        return self._now / sum(mask.numel() for mask in self._masks.values()) if self._masks else 1.0

    @property
    def itop(self) -> float:
        """Which share of the weights has been kept at some time: the in-time over-parameterisation rate R_s.

        Reference: Liu et al., "Do We Actually Need Dense Over-Parameterization?", 2021.
        """
        return sum(counts(self._seen).values()) / max(1, sum(mask.numel() for mask in self._seen.values()))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs to go on."""
        rule = {} if self._rule is None else {name: value.clone() for name, value in self._rule.state.items()}
        masks, seen = (
            {name: m if is_sharded(m) else packed(m) for name, m in known.items()}
            for known in (self._masks, self._seen)
        )
        return {"masks": masks, "seen": seen, "rule": rule, "exchanges": list(self.exchanges),
                "updates": self.updates}  # fmt: skip

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; the module and the optimizer have their state already."""
        for known, bits in ((self._masks, state["masks"]), (self._seen, state["seen"])):
            for name, mask in known.items():
                known[name] = _mask_of(bits[name], mask)
        self.exchanges, self.updates = list(state["exchanges"]), state["updates"]
        self._look()
        if self._rule is not None:
            self._rule.state = {name: value.clone() for name, value in state["rule"].items()}
        if self._controller is not None:
            self._controller.change(self._masks)

    def _update(self, stats: Stats) -> None:
        assert self._rule is not None
        found = self._laid_out(self._rule.masks(stats))
        if self._rule.writes:
            _write_back(stats)
        before = self._now
        both = sum(counts({name: mask & found[name] for name, mask in self._masks.items()}).values())
        self._masks = {**self._masks, **found}
        self._look()  # here alone: it takes as long as masking
        dropped, grown = before - both, self._now - both
        if self._rule.constant and self._now != self._count:
            raise ContractError(
                f"{type(self._rule).__name__} keeps {self._now} weights after step {stats.step}, not {self._count}."
            )
        if self._controller is not None and dropped + grown:
            self._controller.change(found)
        if not dropped + grown:
            return
        for name, mask in found.items():
            local(self._seen[name]).logical_or_(local(mask))
        self.updates += 1
        if self.exchanges and stats.step - self.exchanges[-1]["step"] < stats.steps / _TOLD:
            return
        self.exchanges.append({
            "step": stats.step, "dropped": dropped, "grown": grown, "kept": self._now, "density": self.density,
            "itop": self.itop,
            "layers": {name: round(self._counts[name] / self._masks[name].numel(), 6)
                       for name in self.program.parameters if name in self._masks},
        })  # fmt: skip

    def _stats(self, step: int, steps: int, rate: float) -> Stats:
        gradients: dict[str, Tensor] = {}
        for name, weight in self._weights.items():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            gradients[name] = weight.grad
        seed = (self._seed * 1_000_003 + step) % 2**32  # not that of the step, which dropout has
        generator = torch.Generator().manual_seed(seed)
        written = self._rule is not None and self._rule.writes
        weights, seen = Whole(self._weights, written=written), Whole(gradients, written=written)
        return Stats(step, steps, Whole(self._masks), weights, seen, rate, generator)

    def _laid_out(self, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return masks where their weights are, in shards if those are."""
        return {name: laid_out_like(mask.to(self._weights[name].device), self._weights[name])
                for name, mask in masks.items()}  # fmt: skip

    def _look(self) -> None:
        """Count the weights that are kept, and note the layers that have lost all."""
        self._counts = counts(self._masks)
        self._now = sum(self._counts.values())
        self.emptied += [name for name, count in self._counts.items() if not count and name not in self.emptied]


def _write_back(stats: Stats) -> None:
    """Take over what a rule has written to weights and gradients that are sharded."""
    for values in (stats.weights, stats.gradients):
        if isinstance(values, Whole):
            values.write_back()


def _mask_of(bits: Tensor, like: Tensor) -> Tensor:
    """Return the mask that a checkpoint has kept, in bits or in shards, laid out like another one."""
    if bits.shape == like.shape and bits.dtype == torch.bool:
        return laid_out_like(bits.to(like.device), like)
    return laid_out_like(unpacked(bits.to(like.device), like.shape), like)
