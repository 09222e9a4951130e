"""How similar the outputs of a program stay without a channel or a block."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sparsify.errors import PassError
from sparsify.evaluation.cka import Moments
from sparsify.observation.subject import Subject
from sparsify.observation.trials import Closed, Trials
from sparsify.statistics import Statistic

__all__ = ["OutputSimilarity"]

_WIDEST = 256  # features; wider outputs are mapped to as many at random
_BUDGET = 1 << 26  # bytes of the moments that are gathered at once


class OutputSimilarity(Statistic):
    """Linear CKA of the outputs with and without a structure, 1 for outputs that agree up to rotation and scale.

    ‖Y'ᵀY‖² / (‖YᵀY‖ ‖Y'ᵀY'‖) of centred outputs. Examples are the rows of the first output that is a floating tensor,
    all dimensions but the last; more than 256 features are first projected to 256 with a random matrix. `[size]` for
    each group, a scalar for each block.

    Reference: Kornblith et al., "Similarity of Neural Network Representations Revisited", 2019.
    """

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Run the program without each channel or block in turn; as many at once as moments fit into the memory."""
        trials = Trials(subject)

        def similarities(closed: Sequence[Closed]) -> Tensor:
            width = min(_WIDEST, next(iter(trials.runs())).output.shape[-1:].numel())
            several = max(1, _BUDGET // (8 * (2 * width) ** 2))
            found: list[float] = []
            for start in range(0, len(closed), several):
                part = closed[start : start + several]
                moments = [_Moments() for _ in part]
                for number, whole, other in trials.outputs(part):
                    moments[number].add(_rows(whole), _rows(other))
                found += [each.similarity() for each in moments]
            return torch.tensor(found, dtype=torch.float64)

        return trials.each(similarities)


def _rows(output: Tensor) -> Tensor:
    rows = output.reshape(-1, output.shape[-1] if output.ndim > 1 else 1).double().cpu()
    if rows.shape[1] <= _WIDEST:
        return rows
    generator = torch.Generator().manual_seed(rows.shape[1])
    return rows @ torch.randn(rows.shape[1], _WIDEST, generator=generator, dtype=rows.dtype)


class _Moments(Moments):
    """The moments of one trial, and what their similarity is where CKA is not defined."""

    def similarity(self) -> float:
        if self.count < 2:
            raise PassError("The criterion cka needs several examples, and the data holds one.")
        found = self.cka()
        return found if not math.isnan(found) else float(self.constant())
