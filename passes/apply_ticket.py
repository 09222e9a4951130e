"""The pass `apply-ticket`: put a ticket from a file on a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from sparsify.naming import first_names, plural
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program
from sparsify.tickets.ticket import Ticket

__all__ = ["ApplyTicket"]


@dataclass(frozen=True)
class ApplyTicket(Pass):
    """Give a model the masks of a ticket, take out the blocks that it lacks, and start from its weights.

    The ticket may come from another model of the same shape or from another task, data set or optimizer; retraining
    follows.

    Options:
        file: what `--retrain lth` or `--retrain early-bird` wrote: `-o FILE.ticket`, or a file in the folder of
            `--work`.
        weights: whether the ticket's weights are taken, too; without them the model's own stay under its masks.
        transfer: the model may have other ends, such as another number of classes: what the ticket does not have, or
            has in another shape, stays dense with its own weights, and is named.
        stretch: the model may be deeper or shallower than the ticket's: within a stage of blocks with equal parameters,
            append puts copies of the first blocks' masks behind the last and drops the last ones, interpolate puts
            copies beside their originals and drops every so many.

    Reference: Morcos et al., "One Ticket to Win Them All: Generalizing Lottery Ticket Initializations across Datasets
    and Optimizers", 2019; Chen et al., "The Lottery Ticket Hypothesis for Pre-trained BERT Networks", 2020; Chen et
    al., "The Elastic Lottery Ticket Hypothesis", 2021 (stretch).
    """

    contract: ClassVar[Contract] = Contract.LOSSY

    file: str
    weights: bool = True
    transfer: bool = False
    stretch: Literal["no", "append", "interpolate"] = "no"

    def run(self, program: Program, context: Context) -> Program:
        """Apply it."""
        ticket = Ticket.load(self.file)
        pairs = ticket.pairs(program, transfer=self.transfer, stretch=self.stretch)
        after = ticket.apply(program, weights=self.weights, transfer=self.transfer, stretch=self.stretch)
        dense = [name for name in after.parameters if name not in pairs]
        moved = {name: other for name, other in pairs.items() if name != other}
        total = sum(mask.numel() for mask in after.masks.values())
        sparsity = 1 - sum(int(mask.sum()) for mask in after.masks.values()) / total if total else 0.0
        context.record.update(
            sparsity=sparsity, removed=list(ticket.removed), ticket=dict(ticket.record),
            **({"dense": dense} if self.transfer else {}), **({"from": moved} if self.stretch != "no" else {}),
            done=_done(sparsity, len(after.masks), ticket.removed, dense),
        )  # fmt: skip
        return after


def _done(sparsity: float, layers: int, removed: Sequence[str], dense: Sequence[str]) -> str:
    parts = [f"{sparsity:.2%} of the weights in {plural(layers, 'layer')} pruned"] if layers else []
    parts += [f"{', '.join(removed)} taken out"] if removed else []
    parts += [f"{first_names(dense)} not in the ticket and dense"] if dense else []
    return ", ".join(parts) or "nothing is pruned"
