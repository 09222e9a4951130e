"""Biprop: edge-popup with weights of one bit."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sparsify.strong import Draw, through
from sparsify.strong.edge_popup import EdgePopup

__all__ = ["Biprop"]


@dataclass(frozen=True)
class Biprop(EdgePopup):
    """Choose weights like edge-popup, and make them binary: Θ = α m ⊙ sign(θ).

    The scale of a layer is α = Σ|m ⊙ θ| / Σm, the mean of the weights that are kept; to the gradient it is a constant
    and the mask is |s|. In the end the layer has the weights ±α.

    Attributes:
        sparsity: which fraction of every layer is zero.
        rescale: multiply weights that are drawn by √(1/k).

    Reference: Diffenderfer and Kailkhura, "Multi-Prize Lottery Ticket Hypothesis: Finding Accurate Binary Neural
    Networks by Pruning a Randomly Weighted Network", 2021.
    """

    init: Draw = "kaiming"

    def weight(self, values: Tensor, scores: Tensor) -> Tensor:
        """Return α m ⊙ sign(θ)."""
        mask = self.mask(scores)
        return self._binary(values, mask) * through(mask, scores.abs())

    def result(self, values: Tensor, scores: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return α sign(θ) and m."""
        mask = self.mask(scores)
        return self._binary(values, mask), mask

    def _binary(self, values: Tensor, mask: Tensor) -> Tensor:
        return values.sign() * ((values.abs() * mask).sum() / mask.sum().clamp(min=1))
