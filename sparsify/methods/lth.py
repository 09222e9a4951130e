"""Lottery tickets: train, prune, go back to the start, train what is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsify.program import Program
from sparsify.task import Task
from sparsify.tickets.lottery import Lottery
from sparsify.tickets.lottery_options import LotteryOptions
from sparsify.training.train import Trained
from sparsify.training.work import Work

__all__ = ["Lth"]


@dataclass(frozen=True)
class Lth(LotteryOptions):
    """Iterative magnitude pruning: train to the end, prune a share of what is left, rewind the rest, and again.

    What is found after every round is a ticket: masks, and the weights from which they are trained. The network that
    is given is what training starts from; init= draws its weights anew first.

    Attributes:
        steps: length of every training, `500it` or `10ep`.

    Reference: Frankle and Carbin, "The Lottery Ticket Hypothesis", 2019; Frankle et al., "Linear Mode Connectivity and
    the Lottery Ticket Hypothesis", 2020 (late rewinding); Renda et al., "Comparing Rewinding and Fine-tuning in Neural
    Network Pruning", 2020; Jordao et al., "When Layers Play the Lottery, all Tickets Win at Initialization", 2023.
    """

    finds_ticket: ClassVar[bool] = True

    steps: str = "10ep"

    def retrain(self, program: Program, task: Task, *, seed: int, work: Work) -> Trained:
        """Find tickets, and train each."""
        return Lottery(self, program, task, seed=seed, work=work).play()
