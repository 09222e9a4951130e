"""How the pooled activations of a channel are distributed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched
from sparsify.statistics import Streamed

__all__ = ["PooledHistogram"]

BINS = 1024
_BITS = 24  # of precision: bins are not finer than that beside the largest value


class PooledHistogram(Streamed):
    """Histogram of a channel's mean over positions, one value for each example; `[2, size, 1024]` for each signal.

    First how often, then the centres of the bins. The bins are as wide as a power of two, and pairs of them are merged
    when a value does not fit, so that at least 512 of them cover the range of the data, whatever their order. Where
    tokens of all sequences come in one long line, every token counts as an example.
    """

    def attach(self, subject: Subject, watched: Watched) -> Sequence[Tensor]:
        """Look at the channels of every signal."""
        self._found: dict[str, _Histogram] = {}
        for signal in subject.signals:
            signal.look(watched, partial(self._see, signal.key))
        return []

    def _see(self, key: str, channels: Tensor) -> None:
        values = channels.detach().double()
        values = (values.flatten(2).mean(2) if values.ndim > 2 else values).T
        if key not in self._found:
            self._found[key] = _Histogram(values)
        self._found[key].add(values)

    def result(self) -> Mapping[str, Tensor]:
        """Return counts and centres."""
        return {key: histogram.table() for key, histogram in self._found.items()}


class _Histogram:
    """A histogram for each row; bin j of a row covers [(start + j) 2ᵏ, (start + j + 1) 2ᵏ)."""

    def __init__(self, values: Tensor) -> None:
        self._counts = values.new_zeros(len(values), BINS)
        self._places = torch.arange(BINS, device=values.device)
        self._start = torch.zeros(len(values), dtype=torch.int64, device=values.device)
        self._exponent = torch.full_like(self._start, -1000)
        self._low = values.new_full((len(values),), torch.inf)
        self._high = -self._low

    def add(self, values: Tensor) -> None:
        """Count values `[rows, N]`; what is not finite makes the whole row so."""
        self._low, self._high = self._low.minimum(values.amin(1)), self._high.maximum(values.amax(1))
        finite = torch.isfinite(self._low + self._high)
        low, high = self._low.where(finite, 0.0), self._high.where(finite, 0.0)
        exponent = _exponent(low, high).maximum(self._exponent)
        start = _bin(low, exponent)
        shift = (exponent - self._exponent).clamp_max(62)[:, None]
        old = ((self._start[:, None] + self._places) >> shift) - start[:, None]
        new = _bin(values.where(finite[:, None], 0.0), exponent[:, None]) - start[:, None]
        counts = torch.zeros_like(self._counts).scatter_add_(1, old.clamp(0, BINS - 1), self._counts)
        self._counts = counts.scatter_add_(1, new, torch.ones_like(values))
        self._start, self._exponent = start, exponent

    def table(self) -> Tensor:
        centres = torch.ldexp((self._start[:, None] + self._places).double() + 0.5, self._exponent[:, None])
        low, high = self._low[:, None], self._high[:, None]
        return torch.stack([self._counts, centres.maximum(low).minimum(high) + 0 * (low + high)])


def _exponent(low: Tensor, high: Tensor) -> Tensor:
    """Return the finest k for which all bins together reach from low to high."""
    of_range = torch.frexp((high - low) / (BINS - 1)).exponent.where(high > low, -1000)
    largest = low.abs().maximum(high.abs())
    of_precision = torch.frexp(largest).exponent.where(largest > 0, -200) - _BITS
    return of_range.maximum(of_precision).long()


def _bin(values: Tensor, exponent: Tensor) -> Tensor:
    return torch.ldexp(values, -exponent).floor().long()
