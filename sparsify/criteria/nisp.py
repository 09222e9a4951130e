"""NISP: importance of the final responses, propagated back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.criteria import ChannelStats, Criterion, Scope

__all__ = ["Nisp"]


@dataclass(frozen=True)
class Nisp(Criterion):
    """Importance of the outputs carried back through absolute weights, s = |W|ᵀ s'; for channels, without data.

    A channel counts as much as what reads it counts, all the way to the outputs. The paper starts from the responses
    before the classifier and ranks them by infinite feature selection (Inf-FS) on data; here it starts from the
    outputs, which count the same. Activations and poolings let everything pass, batch norms multiply by
    |γ| / sqrt(var + eps), other norms and softmax divide by sizes that are held constant.

    Reference: Yu et al., "NISP: Pruning Networks using Neuron Importance Score Propagation", 2018.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("channels",)
    needs: ClassVar[tuple[str, ...]] = ("response-importance",)

    def channel(self, stats: ChannelStats) -> Tensor:
        """Return the importances."""
        return stats["response-importance"]
