"""The pass `apply-ticket`: put a ticket from a file on a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsify.naming import plural
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program
from sparsify.tickets.ticket import Ticket

__all__ = ["ApplyTicket"]


@dataclass(frozen=True)
class ApplyTicket(Pass):
    """Give a model the masks of a ticket, take out the blocks that it lacks, and start from its weights.

    The ticket may come from another model of the same shape or from another task; retraining follows.

    Options:
        file: what `--retrain lth` wrote: `-o FILE.ticket`, or a file in the folder of `--work`.
        weights: whether the ticket's weights are taken, too; without them the model's own stay under its masks.

    Reference: Morcos et al., "One Ticket to Win Them All: Generalizing Lottery Ticket Initializations across Datasets
    and Optimizers", 2019.
    """

    contract: ClassVar[Contract] = Contract.LOSSY

    file: str
    weights: bool = True

    def run(self, program: Program, context: Context) -> Program:
        """Apply it."""
        ticket = Ticket.load(self.file)
        after = ticket.apply(program, weights=self.weights)
        context.record.update(
            sparsity=ticket.sparsity, removed=list(ticket.removed), ticket=dict(ticket.record),
            done=_done(ticket),
        )  # fmt: skip
        return after


def _done(ticket: Ticket) -> str:
    parts = []
    if ticket.masks:
        parts.append(f"{ticket.sparsity:.2%} of the weights in {plural(len(ticket.masks), 'layer')} pruned")
    if ticket.removed:
        parts.append(f"{', '.join(ticket.removed)} taken out")
    return ", ".join(parts) or "nothing is pruned"
