"""Zeros that no mask holds: those of a model that was pruned elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from sparsify.embedding import embedded_names
from sparsify.layers import layers
from sparsify.program import Program

__all__ = ["FEW", "zero_masks"]

FEW = 0.05
"""The fraction of a layer's weights below which zeros are chance."""


def zero_masks(program: Program, least: float = FEW) -> Iterator[tuple[str, Tensor]]:
    """Yield masks that keep what is not zero, of the layers without one that have a fraction of zeros, by name.

    Args:
        program: any program; embedded and frozen weights are left out.
        least: the fraction.
    """
    apart = {*program.masks, *program.frozen, *embedded_names(program)}
    for layer in layers(program):
        if layer.parameter in apart:
            continue
        apart.add(layer.parameter)
        kept = program.parameters[layer.parameter].detach() != 0
        if kept.numel() - int(kept.count_nonzero()) >= least * kept.numel():
            yield layer.parameter, kept
