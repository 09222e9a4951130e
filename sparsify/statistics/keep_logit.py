"""How much a policy that learned by trying wants to keep a channel."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sparsify.observation.bandits import source
from sparsify.observation.subject import Subject
from sparsify.observation.trials import Run, Trials
from sparsify.statistics import Statistic

__all__ = ["KeepLogit"]

UPDATES = 64
SAMPLES = 8  # for each update
RATE = 1.0
LIMIT = 8.0  # of a logit; a policy that is sure no longer learns


class KeepLogit(Statistic):
    """The logit of the probability that a learned policy keeps a channel; `[size]` for each group.

    The policy of a group keeps each channel on its own with a probability that starts at one half. An update draws 8
    selections, closes what they leave out on one batch, and follows REINFORCE with rewards that are normalised over
    the 8. The reward of keeping k of N channels is ψ log(N / k). With r the rise of the loss and b a bound, ψ is
    (b - r) / b, cut to [-1, 1]; b is the mean rise of the first selections, which keep half of the channels.
    """

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Learn the policies of all groups, 64 updates on one batch after the other."""
        trials = Trials(subject)
        policies = {s.key: _Policy(s.key, s.size, subject.calibration.seed) for s in trials.signals}
        for _, run in zip(range(UPDATES if policies else 0), trials.endless(), strict=False):
            for policy in policies.values():
                policy.update(run)
        return {key: policy.logits for key, policy in policies.items()}


class _Policy:
    def __init__(self, key: str, size: int, seed: int) -> None:
        self.logits = torch.zeros(size, dtype=torch.float64)
        self._key, self._generator = key, source(seed, key)
        self._bound = 0.0

    def update(self, run: Run) -> None:
        chances = self.logits.sigmoid()
        drawn = torch.rand(SAMPLES, len(chances), generator=self._generator, dtype=torch.float64) < chances
        rises = [run.rise({self._key: ~kept}) for kept in drawn]
        self._bound = self._bound or max(sum(rises) / len(rises), 1e-12)
        rewards = torch.tensor([self._reward(*each) for each in zip(rises, drawn, strict=True)], dtype=torch.float64)
        gains = (rewards - rewards.mean()) / rewards.std().clamp_min(1e-12)
        self.logits += RATE * (gains[:, None] * (drawn.double() - chances)).mean(0)
        self.logits.clamp_(-LIMIT, LIMIT)

    def _reward(self, rise: float, kept: Tensor) -> float:
        score = max(-1.0, min(1.0, (self._bound - rise) / self._bound))
        return score * math.log(len(kept) / max(1, int(kept.sum())))
