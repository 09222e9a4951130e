"""Dynamic sparse training: sparse from the first step on, with weights that move to better places."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from torch import Tensor

from sparsify import registry
from sparsify.batches import epoch_length
from sparsify.errors import OptionError, UsageError
from sparsify.mask_updates import MaskUpdate, updates
from sparsify.naming import plural
from sparsify.pass_manager import PassManager
from sparsify.patterns import NofM, parse_pattern
from sparsify.program import Program
from sparsify.pruning.amounts import rounded
from sparsify.rule_options import RULE_OPTIONS, defaults, takers
from sparsify.schedules import parse_steps
from sparsify.task import Task
from sparsify.tickets.initialization import initial
from sparsify.training.train import Trained
from sparsify.training.train_options import TrainOptions
from sparsify.training.work import Work

__all__ = ["Dst"]

Start: TypeAlias = Literal["given", "torch", "kaiming", "xavier", "shuffle"]
Rule: TypeAlias = Literal["static", "set", "rigl", "snfs", "dsr", "deepr", "srigl", "sr-ste", "gmp"]

_UPDATES = 10  # that a pace is proposed for


def _written(options: Mapping[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in options.items())


@dataclass(frozen=True)
class Dst(TrainOptions):
    """Train a sparse network from the start: as many weights at every step, in places that change.

    The weights start at random places, as many of each layer as the allocation says, or at the masks that the program
    has. Compared with it: static (places stay), gmp (dense at first) and sr-ste (N:M, dense underneath).

    Attributes:
        steps: length of the run, `500it` or `10ep`.
        method: which weights move: rigl, set, snfs, dsr, deepr or srigl; static, gmp, sr-ste.
        sparsity: which fraction of the weights is zero; without it the program's own masks are where it starts.
        allocation: how much of each layer, erk unless it is said.
        pattern: of sr-ste, N:M, 2:4 unless it is said.
        every: steps between updates, `100it` or `1ep`; each method has its own.
        alpha: which share of the weights moves at first; each method has its own.
        until: which share of the run has updates; each method has its own.
        init: how weights are drawn before the training; given keeps those of the program.
        first: dense leaves out layers that read the model's inputs.
        last: dense leaves out layers whose results are outputs.
        protect: names or patterns of modules and parameters that stay dense.

    Reference: Evci et al., "Rigging the Lottery: Making All Tickets Winners", 2020; `sparsify/mask_updates` names the
    sources of the others.

    Raises:
        UsageError: a value is out of its range, or the method does not take an option.
    """

    steps: str = "20ep"
    method: Rule = "rigl"
    sparsity: float | None = None
    allocation: Literal["erk", "er", "uniform"] | None = None
    pattern: str | None = None
    every: str | None = None
    alpha: float | None = None
    until: float | None = None
    init: Start = "given"
    first: Literal["prune", "dense"] = "prune"
    last: Literal["prune", "dense"] = "prune"
    protect: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sparsity is not None and not 0 < self.sparsity < 1:
            raise UsageError(f"dst: sparsity={self.sparsity} is not between 0 and 1.")
        if self.every is not None and parse_steps(self.every, 1) < 1:
            raise UsageError(f"dst: every={self.every} is no pace; updates are at least one step apart.")
        for name in ("alpha", "until"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise UsageError(f"dst: {name}={value} is not in (0, 1].")
        for name in ("pattern", *RULE_OPTIONS):
            methods = ["sr-ste"] if name == "pattern" else takers(name)
            if getattr(self, name) is not None and self.method not in methods:
                take = "takes" if len(methods) == 1 else "take"
                raise UsageError(f"dst: method={self.method} has no {name}; {', '.join(methods)} {take} it.")
        if self.compact and self.method != "static":
            raise OptionError(
                f"dst: method={self.method} changes masks by what it sees of pruned weights, which compact=yes does "
                "not keep. Take method=static, or leave compact out."
            )
        if self.method == "sr-ste":
            self._check_pattern()
        elif self.sparsity is None:
            self._check_given_masks()

    def _check_pattern(self) -> None:
        if not isinstance(parse_pattern(self._pattern), NofM):
            raise UsageError(f"dst: method=sr-ste trains N:M, such as pattern=2:4, not {self.pattern}.")
        for name in ("sparsity", "allocation"):
            if getattr(self, name) is not None:
                raise UsageError(f"dst: with method=sr-ste the pattern says the sparsity; leave out {name}=.")

    def _check_given_masks(self) -> None:
        for name, default in (("allocation", None), ("first", "prune"), ("last", "prune"), ("protect", ())):
            if getattr(self, name) != default:
                raise UsageError(
                    f"dst: without sparsity= the program's own masks are trained, which {name}= cannot change; give "
                    "sparsity=, too."
                )

    @property
    def _pattern(self) -> str:
        return self.pattern or "2:4"

    def retrain(self, program: Program, task: Task, *, seed: int, work: Work) -> Trained:
        """Draw masks, and train with the rule."""
        rule = self._rule(task)
        if (idle := self._idle(rule, task)) is not None:
            work.warn(idle)
        program = self._masked(program, seed)
        if self.init != "given":
            program = initial(program, seed, self.init)
        trained = work.train("dst", program, task, self, seed=seed, rule=rule)
        masks = trained.program.masks
        kept, weights = (sum(count(m) for m in masks.values()) for count in (lambda m: int(m.sum()), Tensor.numel))
        record = {"kept": kept, "masked_weights": weights, "wanted": self._wanted(weights), "dense": rule.dense,
                  "rule": {"method": self.method, **self._used()}}  # fmt: skip
        return replace(trained, record={**record, "itop": trained.itop, "exchanges": trained.updates})

    def _idle(self, rule: MaskUpdate, task: Task) -> str | None:
        """Say what helps where a run is too short for the updates of its rule, or return None."""
        steps = parse_steps(self.steps, lambda: epoch_length(task))
        if type(rule).due is MaskUpdate.due or updates(rule, steps):
            return None
        used = self._used()
        text = f"The masks never change: with {_written(used)} no update falls into {plural(steps, 'step')}."
        pace = max(1, int(float(used.get("until", 1.0)) * steps) // _UPDATES)
        count = updates(replace(self, every=f"{pace}it")._rule(task), steps)
        return f"{text} every={pace}it makes {plural(count, 'update')}." if count else f"{text} Give more steps=."

    def _wanted(self, weights: int) -> int | None:
        return None if self.sparsity is None or self.method == "sr-ste" else rounded((1 - self.sparsity) * weights)

    def _masked(self, program: Program, seed: int) -> Program:
        if self.method == "sr-ste":
            amount = f"pattern={self._pattern}"
        elif self.sparsity is None:
            if not program.masks:
                raise OptionError("dst needs sparsity=, or masks: a pass such as weight-prune before it.")
            return program
        else:
            amount = f"sparsity={self.sparsity!r},allocation={self.allocation or 'erk'},criterion=random"
        words = [amount, f"first={self.first}", f"last={self.last}"]
        words += [f"protect={','.join(self.protect)}"] if self.protect else []
        manager = PassManager([f"weight-prune:{','.join(words)}"], asked="dst")
        return replace(manager.run(program, seed=seed), history=program.history)

    def _used(self) -> dict[str, Any]:
        """Return what the method takes, with what it uses: what is given, else its own defaults."""
        chosen = {name: getattr(self, name) for name in RULE_OPTIONS}
        return {
            name: default if chosen[name] is None else chosen[name] for name, default in defaults(self.method).items()
        }

    def _rule(self, task: Task) -> MaskUpdate:
        entry = registry.find("sparsify.mask_updates", self.method)
        used = self._used()
        given: dict[str, Any] = {name: float(used[name]) for name in used if name != "every"}
        if "every" in used:
            given["every"] = parse_steps(used["every"], lambda: epoch_length(task))
        if self.method == "sr-ste":
            pattern = parse_pattern(self._pattern)
            assert isinstance(pattern, NofM)
            given.update(n=pattern.n, m=pattern.m)
        rule: MaskUpdate = getattr(importlib.import_module(entry.module), entry.class_name)(**given)
        return rule
