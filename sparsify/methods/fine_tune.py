"""Fine-tune: go on training the weights that there are, at a small learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsify.program import Program
from sparsify.task import Task
from sparsify.training.train import Trained
from sparsify.training.train_options import TrainOptions
from sparsify.training.work import Work

__all__ = ["FineTune"]


@dataclass(frozen=True)
class FineTune(TrainOptions):
    """Keep all weights and train on for a short while, so that the network makes up for what was removed.

    The options are those of training, with a short run and a small learning rate as defaults.

    Attributes:
        steps: length of the run, `500it` or `10ep`.
        learning_rate: its highest value.

    Reference: Han et al., Learning both Weights and Connections for Efficient Neural Networks, 2015.
    """

    plain: ClassVar[bool] = True

    steps: str = "200it"
    learning_rate: float = 0.01

    def retrain(self, program: Program, task: Task, *, seed: int, work: Work) -> Trained:
        """Train the program with these options."""
        return work.train("fine-tune", program, task, self, seed=seed)
