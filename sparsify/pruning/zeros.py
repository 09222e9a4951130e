"""Zeros that no mask holds: those of a model that was pruned elsewhere."""

from __future__ import annotations

from torch import Tensor

from sparsify.embedding import embedded_names
from sparsify.layers import layers
from sparsify.program import Program

__all__ = ["FEW", "zero_masks"]

FEW = 0.05
"""The fraction of a layer's weights below which zeros are chance."""


def zero_masks(program: Program, least: float = FEW) -> dict[str, Tensor]:
    """Return masks that keep what is not zero, of the layers without one that have a fraction of zeros.

    Args:
        program: any program; embedded and frozen weights are left out.
        least: the fraction.
    """
    apart = {*program.masks, *program.frozen, *embedded_names(program)}
    found: dict[str, Tensor] = {}
    for layer in layers(program):
        if layer.parameter in apart or layer.parameter in found:
            continue
        kept = program.parameters[layer.parameter].detach() != 0
        if int((~kept).sum()) >= least * kept.numel():
            found[layer.parameter] = kept
    return found
