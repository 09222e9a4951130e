"""How far the answers of a program move without a channel or a block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sparsify.errors import PassError
from sparsify.observation.subject import Subject
from sparsify.observation.trials import Closed, Trials
from sparsify.statistics import Statistic

__all__ = ["OutputDivergence"]


class OutputDivergence(Statistic):
    """KL(softmax(y) ‖ softmax(y')) of the outputs with and without a structure, mean over examples and positions.

    The output is the first one that is a floating tensor; its last dimension are the classes. `[size]` for each group,
    a scalar for each block.
    """

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Run the program without each channel or block in turn."""
        trials = Trials(subject)

        def divergences(closed: Sequence[Closed]) -> Tensor:
            total = torch.zeros(len(closed), dtype=torch.float64)
            count = torch.zeros(len(closed), dtype=torch.int64)
            for number, whole, other in trials.outputs(closed):
                found = _divergences(whole, other)
                total[number] += float(found.sum())
                count[number] += found.numel()
            return total / count

        return trials.each(divergences)


def _divergences(whole: Tensor, other: Tensor) -> Tensor:
    if whole.ndim == 0 or whole.shape[-1] < 2:
        raise PassError(
            f"The criterion kl compares probabilities of classes, and the output {list(whole.shape)} has none in its "
            "last dimension. Use another criterion, such as channel-oracle, oracle or cka."
        )
    expected, found = F.log_softmax(whole.double(), -1), F.log_softmax(other.double(), -1)
    divergences: Tensor = F.kl_div(found, expected, reduction="none", log_target=True).sum(-1)
    return divergences
