"""IteRand: edge-popup, and what it leaves out is drawn anew from time to time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsify.pruning.amounts import rounded
from sparsify.strong.edge_popup import EdgePopup

__all__ = ["Iterand"]


@dataclass(frozen=True)
class Iterand(EdgePopup):
    """Choose weights like edge-popup, and draw a share of those that are left out anew every so many steps.

    The share is exact, the places are random; weights that are kept are never touched, and no weight has a gradient.

    Attributes:
        every: steps between two draws, K_per, `300it` or `1ep`.
        share: which share of what is left out is drawn anew, r.

    Reference: Chijiwa et al., "Pruning Randomly Initialized Neural Networks with Iterative Randomization", 2021.
    """

    every: str = "300it"
    share: float = 0.1

    def renewed(self, weight: Tensor, scores: Tensor, fresh: Tensor, generator: torch.Generator) -> Tensor:
        """Return the weight with fresh values at random places among those that are left out."""
        out = (~self.mask(scores)).flatten().nonzero().squeeze(1)
        order = torch.randperm(len(out), generator=generator)[: rounded(self.share * len(out))]
        places = out[order.to(out.device)]
        return weight.flatten().index_copy(0, places, fresh.flatten()[places]).view(weight.shape)
