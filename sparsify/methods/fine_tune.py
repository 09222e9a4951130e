"""Fine-tune: go on training the weights that there are, at a small learning rate."""

from __future__ import annotations

from dataclasses import dataclass

from sparsify.checkpoints import Checkpoints
from sparsify.program import Program
from sparsify.task import Task
from sparsify.train import OnStep, Trained, train
from sparsify.train_options import TrainOptions

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

    steps: str = "200it"
    learning_rate: float = 0.01

    def retrain(
        self,
        program: Program,
        task: Task,
        *,
        seed: int,
        on_step: OnStep | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Trained:
        """Train the program with these options."""
        return train(program, task, self, seed=seed, on_step=on_step, checkpoints=checkpoints)
