"""How much worse a program is without a channel."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sparsify.observation.subject import Subject
from sparsify.observation.trials import Trials
from sparsify.statistics import Statistic

__all__ = ["ChannelDamage"]


class ChannelDamage(Statistic):
    """How much the loss rises when a channel alone is closed, mean over the batches; `[size]` for each group.

    Without a task it is the relative L2 change of the outputs on the example inputs. For a block it is a scalar: the
    rise without all that the block adds.
    """

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Run the program without each channel in turn."""
        trials = Trials(subject)
        return trials.each(trials.rises)
