"""The pass `sanity`: turn a pruned model into a control that it must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from sparsify.controls import chosen_again, small_dense
from sparsify.errors import PassError, UsageError
from sparsify.masking import forgotten
from sparsify.observation.calibration import Calibration
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program
from sparsify.pruning.choice import made
from sparsify.tickets.initialization import Init, initial

__all__ = ["Sanity"]


@dataclass(frozen=True)
class Sanity(Pass):
    """Make a control of a pruned model: retrained alike, it should do worse, or the pruning deserves no credit.

    Comes after the pass that masks and before `shrink`. Every control keeps as many weights (channels, tiles) of every
    layer as the pruned model, and the pattern of its mask, but small-dense, which has as many parameters in all.

    Options:
        control: shuffle keeps random weights of every layer, with their own values; invert keeps those that the
            criterion scores lowest; reinit keeps the mask and draws all weights anew; random does both, shuffle and
            reinit; small-dense is a thinner dense model, drawn anew.
        criterion: whose scores invert turns round: that of the pruning.
        init: how weights are drawn anew: torch (as its layers do), kaiming, xavier, or shuffle (their own values in
            random places).
        batches: how many training batches a criterion that needs data looks at.

    Reference: Frankle and Carbin, "The Lottery Ticket Hypothesis", 2019 (reinit); Frankle et al., "Pruning Neural
    Networks at Initialization: Why Are We Missing the Mark?", 2021 (shuffle, invert); Su et al., "Sanity-Checking
    Pruning Methods", 2020; Liu et al., "Rethinking the Value of Network Pruning", 2019 (small-dense).
    """

    contract: ClassVar[Contract] = Contract.LOSSY

    control: Literal["shuffle", "reinit", "invert", "random", "small-dense"]
    criterion: str = "magnitude"
    init: Init = "torch"
    batches: int = 8

    def __post_init__(self) -> None:
        made(self.criterion)
        if self.batches < 1:
            raise UsageError(f"sanity: batches={self.batches} is less than 1.")

    def run(self, program: Program, context: Context) -> Program:
        """Make the control."""
        if not program.masks:
            raise PassError("Nothing is masked. Prune first; the control is made of the masks, before shrink.")
        if forgotten(program) and (self.control in ("shuffle", "invert") or self._own_values()):
            raise PassError(
                "The weights under the masks are zeros, as reconstruct and retraining leave them, and this control "
                "would take its values from them. Make it right after pruning, and retrain it like the pruned model; "
                "or take control=reinit or control=random."
            )
        after = self._control(program, context)
        left = sum(value.numel() for value in after.parameters.values())
        left -= sum(int((~mask).sum()) for mask in after.masks.values())
        context.record.update(parameters_left=left, done=f"{self.control} control with {left:,} parameters")
        return after

    def _own_values(self) -> bool:
        return self.init == "shuffle" and self.control in ("reinit", "random")

    def _control(self, program: Program, context: Context) -> Program:
        if self.control == "small-dense":
            return initial(small_dense(program, context.seed), context.seed, self.init)
        if self.control == "reinit":
            return initial(program, context.seed, self.init)
        calibration = Calibration(context.task, self.batches, context.seed)
        if self.control == "invert":
            return chosen_again(program, self.criterion, calibration, lowest=True)
        shuffled = chosen_again(program, "random", calibration)
        return initial(shuffled, context.seed, self.init) if self.control == "random" else shuffled
