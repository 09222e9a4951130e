"""How much damage a channel does, by a bandit with upper confidence bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from sparsify.observation.bandits import Arms, play
from sparsify.observation.subject import Subject
from sparsify.statistics import Statistic

__all__ = ["Ucb1Damage"]


class Ucb1Damage(Statistic):
    """Mean rise of the loss over the pulls that UCB1 gave a channel; `[size]` for each group.

    It pulls the arm with the highest r + √(2 ln t / n): r its mean reward, n its pulls, t those of all. The reward is
    the damage, turned round and scaled to [0, 1] by the lowest and the highest damage seen so far.

    Reference: Auer, Cesa-Bianchi and Fischer, "Finite-time Analysis of the Multiarmed Bandit Problem", 2002.
    """

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Play."""
        return play(subject, _choose)


def _choose(arms: Arms) -> int:
    rewards = (arms.highest - arms.means) / max(arms.highest - arms.lowest, 1e-30)
    bounds = rewards + (2 * math.log(float(arms.pulls.sum())) / arms.pulls).sqrt()
    return int(bounds.argmax())
