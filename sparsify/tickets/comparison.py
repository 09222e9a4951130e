"""Comparisons: the controls that a ticket must beat, and what is noted of every network that is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from sparsify.cost import cost
from sparsify.masking import masked, unmasked
from sparsify.pass_manager import PassManager
from sparsify.program import Program
from sparsify.task import Score, Task
from sparsify.tickets.initialization import Init, initial
from sparsify.training.train import Trained

__all__ = ["Comparison", "Control", "Unit"]

Control: TypeAlias = Literal["reinit", "random", "shuffle", "invert", "small-dense", "dense"]
Unit: TypeAlias = Literal["weights", "channels", "layers"]


@dataclass(frozen=True)
class Comparison:
    """Makes controls, and measures networks beside each other.

    Attributes:
        asked: the retraining method; errors name it.
        task: data, loss and score.
        seed: of the run; what controls draw is drawn with the next one, or it would be what the ticket has.
        whole: the network of which all shares are.
        unit: what is pruned.
        criterion: what decides.
        batches: that a criterion looks at.
        init: how new weights are drawn.
        protect: what stays.
    """

    asked: str
    task: Task
    seed: int
    whole: Program
    unit: Unit
    criterion: str
    batches: int
    init: Init = "torch"
    protect: Sequence[str] = ()

    def control(self, name: Control, ticket: Program, pruned: Program, *, start: Program, removed: int) -> Program:
        """Make a control.

        Args:
            name: which.
            ticket: with the masks and the weights that it is trained from.
            pruned: with the masks and, under them, the weights that were scored.
            start: what the ticket is a part of, with the weights that it is trained from.
            removed: how many blocks are gone.
        """
        if name == "dense":
            return start
        if name == "reinit":
            return initial(ticket, self.seed + 1, self.init)
        if self.unit == "layers" and name == "random":
            words = [f"count={removed}", "criterion=random", *self.protected()]
            return self.passed(f"layer-prune:{','.join(words)}", start, seed=self.seed + 1)[0]
        if name in ("shuffle", "invert"):  # other places, chosen by the weights that were scored, with the first ones
            turned = f",criterion={self.criterion},batches={self.batches}" if name == "invert" else ""
            seed = self.seed if name == "invert" else self.seed + 1  # it turns round the scores of the same data
            other = self.passed(f"sanity:control={name}{turned}", pruned, seed=seed)[0]
            return masked(unmasked(ticket), other.masks)
        return self.passed(f"sanity:control={name},init={self.init}", ticket, seed=self.seed + 1)[0]

    def entry(self, number: int, trained: Trained) -> dict[str, Any]:
        """Return what a report says of a trained network of a round."""
        program = trained.program
        known, whole = cost(program), cost(unmasked(self.whole))
        score: Score = self.task.score(program.module(copy=False))
        best = min(trained.curve, key=lambda item: item["validation_loss"], default=None)
        masks = program.masks
        total = sum(mask.numel() for mask in masks.values())
        return {
            "round": number, "score": score.value, "interval": list(score.interval) if score.interval else None,
            "density": sum(int(mask.sum()) for mask in masks.values()) / total if total else 1.0,
            "nonzero": known.nonzero, "nonzero_share": known.nonzero / whole.parameters,
            "macs": known.macs, "macs_share": known.macs / whole.macs if whole.macs else 1.0,
            "first_steps_to_best": None if best is None else best["step"], "curve": list(trained.curve),
        }  # fmt: skip

    def passed(self, spec: str, program: Program, *, seed: int | None = None) -> tuple[Program, dict[str, Any]]:
        """Run a pass that the method uses; return the program and the pass's record. The history stays as it was.

        Raises:
            PassError: the pass refuses.
        """
        records: list[dict[str, Any]] = []
        manager = PassManager([spec], lambda event: records.append(event.record), asked=self.asked)
        after = manager.run(program, task=self.task, seed=self.seed if seed is None else seed)
        return replace(after, history=program.history), records[1]

    def protected(self) -> list[str]:
        """Return the words of a spec that protect."""
        return [f"protect={','.join(self.protect)}"] if self.protect else []
