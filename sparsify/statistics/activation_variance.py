"""How much a channel varies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor

from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched
from sparsify.statistics import Streamed
from sparsify.statistics._moments import Moments

__all__ = ["ActivationVariance"]


class ActivationVariance(Streamed):
    """Variance of the values of a channel over examples and positions; `[size]` for each group or block."""

    def attach(self, subject: Subject, watched: Watched) -> Sequence[Tensor]:
        """Look at the channels of every signal."""
        self._found: dict[str, Moments] = defaultdict(Moments)
        for signal in subject.signals:
            signal.look(watched, partial(self._see, signal.key))
        return []

    def _see(self, key: str, channels: Tensor) -> None:
        self._found[key].add(channels.transpose(0, 1).flatten(1), 1)

    def result(self) -> Mapping[str, Tensor]:
        """Return the variances."""
        return {key: moments.variance for key, moments in self._found.items()}
