"""How often a channel is silent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched
from sparsify.statistics import Streamed

__all__ = ["ZeroShare"]


class ZeroShare(Streamed):
    """The share of zeros among all values of a channel, over examples and positions; `[size]` for each group."""

    def attach(self, subject: Subject, watched: Watched) -> Sequence[Tensor]:
        """Look at the channels of every signal."""
        self._zeros: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        self._count: dict[str, int] = defaultdict(int)
        for signal in subject.signals:
            signal.look(watched, partial(self._see, signal.key))
        return []

    def _see(self, key: str, channels: Tensor) -> None:
        values = channels.transpose(0, 1).flatten(1)
        self._zeros[key] = self._zeros[key].to(values.device) + (values == 0).double().sum(1)
        self._count[key] += values.shape[1]

    def result(self) -> Mapping[str, Tensor]:
        """Return the shares."""
        return {key: zeros / self._count[key] for key, zeros in self._zeros.items()}
