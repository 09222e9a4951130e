"""How large the inputs of layers are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from sparsify.layers import Layer
from sparsify.observation.subject import Subject
from sparsify.observation.watching import Rows, Watched
from sparsify.statistics import Streamed

__all__ = ["InputNorm"]


class InputNorm(Streamed):
    """L2 norm of each input of a layer over all tokens or positions of the data.

    For a convolution an input is a channel at a position of the kernel. Given in a shape that broadcasts to the
    weight's; layers whose input is no value of the graph (states of recurrent layers) have none.
    """

    def attach(self, subject: Subject, watched: Watched) -> Sequence[Tensor]:
        """Look at the input of every layer."""
        self._squares: dict[str, Tensor] = {}
        self._layers = {layer.parameter: layer for layer in subject.layers}
        self._shapes = {name: subject.program.parameters[name].shape for name in self._layers}
        for layer in subject.layers:
            watched.rows(layer, partial(self._see, layer))
        return []

    def _see(self, layer: Layer, rows: Rows) -> None:
        if isinstance(rows, Tensor):
            squares = torch.linalg.vector_norm(rows.detach(), dim=1, dtype=torch.float32).square()
        else:
            squares = torch.stack([part.detach().float().square().sum(0) for part in rows])
        known = self._squares.get(layer.parameter)
        self._squares[layer.parameter] = squares if known is None else known + squares

    def result(self) -> Mapping[str, Tensor]:
        """Return the norms."""
        return {
            name: self._layers[name].layout.spread(squares.sqrt(), self._shapes[name])
            for name, squares in self._squares.items()
        }
