"""How strong a channel is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched
from sparsify.statistics import Streamed

__all__ = ["MeanAbsolute"]


class MeanAbsolute(Streamed):
    """Mean of |a| over examples and positions; `[size]` for each group or block."""

    def attach(self, subject: Subject, watched: Watched) -> Sequence[Tensor]:
        """Look at the channels of every signal."""
        self._total: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        self._count: dict[str, int] = defaultdict(int)
        for signal in subject.signals:
            signal.look(watched, partial(self._see, signal.key))
        return []

    def _see(self, key: str, channels: Tensor) -> None:
        values = channels.detach().transpose(0, 1).flatten(1)
        self._total[key] = self._total[key].to(values.device) + values.abs().sum(1, dtype=torch.float64)
        self._count[key] += values.shape[1]

    def result(self) -> Mapping[str, Tensor]:
        """Return the means."""
        return {key: total / max(1, self._count[key]) for key, total in self._total.items()}
