"""Supermask: a coin for every weight, whose odds are trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsify.strong import Masking, best, through

__all__ = ["Supermask"]


@dataclass(frozen=True)
class Supermask(Masking):
    """Keep a weight with the probability σ(s), drawn anew at every step: Θ = θ ⊙ m with m ~ Bernoulli(σ(s)).

    To the gradient the mask is σ(s). In the end, and whenever a score is measured, the mask is that of the likelier
    side, σ(s) > ½, or as many of the likeliest weights as are asked for.

    Attributes:
        sparsity: which fraction of every layer is zero in the end; without it the scores say.
        rescale: multiply what is kept by n/Σm, dynamic weight rescaling.

    Reference: Zhou et al., "Deconstructing Lottery Tickets: Zeros, Signs, and the Supermask", 2019.
    """

    learning_rate: float = 0.05
    sparsity: float | None = None
    rescale: bool = False

    def scores(self, weight: Tensor, fan_in: int, generator: torch.Generator) -> Tensor:
        """Return the scores to start from: normal, so that the odds are even and no two are the same."""
        return 0.01 * torch.randn(weight.shape, generator=generator)

    def mask(self, scores: Tensor) -> Tensor:
        """Mark the likely ones."""
        return scores > 0 if self.sparsity is None else best(scores, self.sparsity)

    def weight(self, values: Tensor, scores: Tensor) -> Tensor:
        """Return θ ⊙ m, with coins where there are gradients and the mask of the end where there are none."""
        odds = scores.sigmoid()
        mask = torch.rand_like(odds) < odds if torch.is_grad_enabled() else self.mask(scores)
        return self._scaled(values, mask) * through(mask, odds)

    def result(self, values: Tensor, scores: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return θ, times n/Σm if that is asked for, and m."""
        mask = self.mask(scores)
        return self._scaled(values, mask), mask

    def _scaled(self, values: Tensor, mask: Tensor) -> Tensor:
        return values * (mask.numel() / mask.sum().clamp(min=1)).to(values.dtype) if self.rescale else values
