"""How much the response to a part of the input varies."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sparsify.layers import Layer
from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched
from sparsify.statistics import Streamed
from sparsify.statistics._moments import Moments

__all__ = ["ResponseVariance"]

_HELD = 1 << 22  # numbers at once


class ResponseVariance(Streamed):
    """Variance over the examples p of ‖W_ji * X_i^p‖_F, of what output j gets from input i; the weight's shape.

    All weights of a kernel slice W_ji have the slice's value. The norm is taken over positions or tokens, by way of
    the Gram matrix of the example's patches: ‖W_ji * X_i‖² = wᵀ(PᵀP)w. Where a layer gets the tokens of all sequences
    in one long line, as experts do, every token is an example; in a transposed convolution every position of the
    kernel is an output of its own.

    Reference: Polyak and Wolf, "Channel-Level Acceleration of Deep Face Representations", 2015.
    """

    def attach(self, subject: Subject, watched: Watched) -> Sequence[Tensor]:
        """Look at the input of every layer."""
        self._layers = {layer.parameter: layer for layer in subject.layers}
        masks = subject.program.masks
        self._weights = {
            name: torch.where(masks[name], value.detach(), 0.0) if name in masks else value.detach()
            for name, value in subject.program.parameters.items()
            if name in self._layers
        }
        self._found: dict[str, defaultdict[int, Moments]] = {}
        for layer in subject.layers:
            if layer.rows is not None:
                watched.look(layer.node, partial(self._see, layer))
        return []

    def _see(self, layer: Layer, *args: Any) -> None:
        assert layer.rows is not None
        rows = layer.rows(args)
        found = self._found.setdefault(layer.parameter, defaultdict(Moments))
        if not isinstance(rows, Tensor):
            for expert, part in enumerate(rows):
                found[expert].add(part.abs(), 0)
            return
        kernel = self._kernel(layer.parameter)
        x = rows.detach().float().reshape(len(rows), _examples(layer, args, rows), -1, rows.shape[-1] // kernel, kernel)
        if kernel == 1:
            found[0].add(torch.linalg.vector_norm(x[..., 0], dim=2), 1)
            return
        weight = self._weights[layer.parameter]
        slices = layer.layout.matrices(weight).to(x.dtype).unflatten(2, (-1, kernel)).permute(0, 2, 3, 1)  # type: ignore[no-untyped-call]
        for part in torch.split(x, max(1, _HELD // weight.numel()), dim=1):
            patches = part.transpose(2, 3)
            gram = patches.transpose(-1, -2) @ patches
            squares = ((gram @ slices[:, None]) * slices[:, None]).sum(-2)
            found[0].add(squares.clamp_min(0).sqrt(), 1)

    def _kernel(self, parameter: str) -> int:
        return math.prod(self._weights[parameter].shape[dim] for dim in self._layers[parameter].layout.kernel)

    def result(self) -> Mapping[str, Tensor]:
        """Return the variances."""
        return {name: self._of(name, found) for name, found in self._found.items()}

    def _of(self, name: str, found: Mapping[int, Moments]) -> Tensor:
        weight, layout, kernel = self._weights[name], self._layers[name].layout, self._kernel(name)
        if kernel == 1:
            parts = [found[index].variance for index in sorted(found)]
            of_inputs = torch.stack(parts) if parts[0].ndim == 1 else parts[0]
            return layout.spread(of_inputs, weight.shape) * weight.double().square()
        of_slices = found[0].variance.transpose(1, 2)
        return layout.restore(of_slices.repeat_interleave(kernel, 2), weight.shape)

    def bytes(self, subject: Subject, parameter: str) -> int:
        """Return the size of a mean and a sum of squares for each slice, and of the result."""
        return 3 * 8 * subject.program.parameters[parameter].numel()


def _examples(layer: Layer, args: Sequence[Any], rows: Tensor) -> int:
    """Return how many examples the rows are of; they come one after the other."""
    if layer.layout.batch:
        return rows.shape[1]
    x: Tensor = args[layer.node.args.index(layer.x)]
    return 1 if x.ndim == len(layer.layout.kernel) + 1 else len(x)  # without a dimension for the batch
