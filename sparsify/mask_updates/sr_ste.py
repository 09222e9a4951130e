"""SR-STE: N of every M weights, chosen anew at every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.mask_updates import MaskUpdate, Stats
from sparsify.patterns import NofM

__all__ = ["SrSte"]


@dataclass
class SrSte(MaskUpdate):
    """Train N:M from scratch: the N largest of every M weights compute, and the gradient reaches all of them.

    The gradient of a pruned weight is that of a kept one (straight through), plus λ times the weight, so that what is
    pruned shrinks and the choice settles. Pruned weights live on beside the masks.

    Attributes:
        n: how many stay.
        m: of how many.
        penalty: λ.

    Reference: Zhou et al., "Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch", 2021.
    """

    writes: ClassVar[bool] = True
    keeps_pruned: ClassVar[bool] = True
    dense: ClassVar[str] = "dense underneath"

    n: int = 2
    m: int = 4
    penalty: float = 2e-4

    def due(self, step: int, steps: int) -> bool:
        """At every step."""
        return True

    def start(self, masks: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Choose by magnitude among all weights, whatever the masks were."""
        return self._chosen({name: weights[name] for name in masks})

    @torch.no_grad()
    def observe(self, stats: Stats) -> None:
        """Put the pruned weights back for the optimizer's step, and add λ θ to their gradients."""
        for name, weight in stats.weights.items():
            weight.copy_(self.state[name])
            stats.gradients[name].add_(weight * ~stats.masks[name], alpha=self.penalty)

    def masks(self, stats: Stats) -> Mapping[str, Tensor]:
        """Remember all weights, and mask those that compute next."""
        return self._chosen(stats.weights)

    @torch.no_grad()
    def _chosen(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        pattern, found = NofM(self.n, self.m), {}
        for name, weight in weights.items():
            self.state[name] = weight.detach().clone()
            found[name] = pattern.mask(weight.detach().abs(), self.layouts[name])
            weight.mul_(found[name])
        return found
