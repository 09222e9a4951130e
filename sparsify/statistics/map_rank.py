"""Ranks of feature maps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from sparsify.errors import PassError
from sparsify.naming import first_names
from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched
from sparsify.statistics import Streamed

__all__ = ["MapRank"]

EXAMPLES = 500  # the authors found the mean ranks settled by then


class MapRank(Streamed):
    """Mean rank of the feature map of a channel as a matrix, over up to 500 examples; `[size]` for each group or block.

    A map of more than two dimensions is a matrix of its first by all others. Values without a map, as behind a pooled
    image, do not count where the same channels have a map elsewhere.

    Reference: Lin et al., "HRank: Filter Pruning using High-Rank Feature Map", 2020.
    """

    def attach(self, subject: Subject, watched: Watched) -> Sequence[Tensor]:
        """Look at the channels of every signal."""
        self._keys = [signal.key for signal in subject.signals]
        self._total: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        self._count: dict[str, int] = defaultdict(int)
        for signal in subject.signals:
            signal.look(watched, partial(self._see, signal.key))
        return []

    def _see(self, key: str, channels: Tensor) -> None:
        maps = channels[: max(0, EXAMPLES - self._count[key])].detach().float()
        if maps.ndim < 4 or len(maps) == 0:
            return
        if not bool(torch.isfinite(maps).all()):
            raise PassError(f"The feature maps of {key} are not finite. Check the data and the model.")
        ranks = torch.linalg.matrix_rank(maps.flatten(3)).double()
        self._total[key] = self._total[key].to(ranks.device) + ranks.sum(0)
        self._count[key] += len(maps)

    def result(self) -> Mapping[str, Tensor]:
        """Return the means.

        Raises:
            PassError: a signal is never a map.
        """
        if flat := [key for key in self._keys if not self._count[key]]:
            raise PassError(
                "Ranks need feature maps of two dimensions, as of images, and there are none of "
                f"{first_names(flat)}. Protect them (protect={','.join(flat)}), or use another criterion, such as "
                "expect-abs."
            )
        return {key: self._total[key] / self._count[key] for key in self._keys}
