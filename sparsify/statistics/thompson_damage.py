"""How much damage a channel does, by a bandit with Thompson sampling."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsify.observation.bandits import Arms, play
from sparsify.observation.subject import Subject
from sparsify.statistics import Statistic

__all__ = ["ThompsonDamage"]


class ThompsonDamage(Statistic):
    """Mean rise of the loss over the pulls that Thompson sampling gave a channel; `[size]` for each group.

    For every arm it draws from N(m, s² / n), m its mean damage and n its pulls, and pulls the one with the lowest
    draw; s is the deviation of all damages seen so far. This is the posterior of a mean with normal noise.

    Reference: Thompson, "On the Likelihood that One Unknown Probability Exceeds Another", 1933; Agrawal and Goyal,
    "Further Optimal Regret Bounds for Thompson Sampling", 2013.
    """

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Play."""
        return play(subject, _choose)


def _choose(arms: Arms) -> int:
    noise = torch.randn(len(arms.pulls), generator=arms.generator, dtype=torch.float64)
    return int((arms.means + arms.deviation * noise / arms.pulls.sqrt()).argmin())
