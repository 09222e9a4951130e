"""How the inputs of layers go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from sparsify.layers import Layer
from sparsify.observation.subject import Subject
from sparsify.observation.watching import Rows, Watched
from sparsify.statistics import Streamed

__all__ = ["InputGram"]

_ROWS = 1 << 14  # at a time, so that a cast to float32 does not double the memory of a large input


class InputGram(Streamed):
    """E[x xᵀ] of the inputs x of a layer, mean over all tokens or positions of the data; float32 `[G, K, K]`.

    G and K are those of the weight's matrices `[G, O, K]` (`Layout.matrices`): for a convolution K runs over channels
    and kernel, experts have matrices of their own, and one that got no rows has zeros. Layers whose input is no value
    of the graph (states of recurrent layers) have none.
    """

    def attach(self, subject: Subject, watched: Watched) -> Sequence[Tensor]:
        """Look at the input of every layer."""
        self._grams: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}
        for layer in subject.layers:
            watched.rows(layer, partial(self._see, layer))
        return []

    def _see(self, layer: Layer, rows: Rows) -> None:
        parts = [part.detach() for part in rows]  # for each matrix [N, K]
        gram = torch.stack([_gram(part) for part in parts])
        count = torch.tensor([len(part) for part in parts], dtype=torch.float64)
        known = self._grams.get(layer.parameter)
        self._grams[layer.parameter] = gram if known is None else known.add_(gram)
        self._counts[layer.parameter] = self._counts.get(layer.parameter, 0) + count

    def result(self) -> Mapping[str, Tensor]:
        """Return the means."""
        return {
            name: gram / self._counts[name].clamp_min(1).to(gram.device, gram.dtype)[:, None, None]
            for name, gram in self._grams.items()
        }

    def bytes(self, subject: Subject, parameter: str) -> int:
        """Return the size of the matrices."""
        groups, _, inputs = subject.matrices(parameter)
        return 4 * groups * inputs * inputs


def _gram(rows: Tensor) -> Tensor:
    total = torch.zeros(rows.shape[1], rows.shape[1], device=rows.device)
    for piece in torch.split(rows, _ROWS):
        total.addmm_(piece.float().T, piece.float())
    return total
