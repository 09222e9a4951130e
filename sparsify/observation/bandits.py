"""Bandits: find out by repeated trials which channels do little damage, looking closest at those that seem to."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from sparsify.observation.subject import Subject
from sparsify.observation.trials import Trials

__all__ = ["PULLS", "Arms", "Choose", "play", "source"]

PULLS = 4  # for each channel, on average


class Arms:
    """The channels of a group, each an arm of a bandit whose reward is high where closing it does little damage.

    Args:
        size: how many there are.
        generator: of the choice.

    Attributes:
        pulls: how often each was closed.
        damages: the sum of the damages of each.
        lowest: the lowest damage of all pulls.
        highest: the highest.
        squares: the sum of the squared damages of all pulls.
    """

    def __init__(self, size: int, generator: torch.Generator) -> None:
        self.generator = generator
        self.pulls = torch.zeros(size, dtype=torch.float64)
        self.damages = torch.zeros(size, dtype=torch.float64)
        self.lowest, self.highest, self.squares = float("inf"), -float("inf"), 0.0
        self._order = torch.randperm(size, generator=generator).tolist()

    @property
    def means(self) -> Tensor:
        """The mean damage of each arm; all must have been pulled."""
        return self.damages / self.pulls

    @property
    def deviation(self) -> float:
        """The standard deviation of all damages."""
        count = float(self.pulls.sum())
        mean = float(self.damages.sum()) / count
        return math.sqrt(max(0.0, self.squares / count - mean**2))

    @property
    def done(self) -> bool:
        """Whether the budget of pulls is spent."""
        return float(self.pulls.sum()) >= PULLS * len(self.pulls)

    def next(self, choose: Choose) -> int:
        """Return the arm to pull: every arm once in random order, then as the strategy says."""
        return self._order.pop() if self._order else choose(self)

    def note(self, arm: int, damage: float) -> None:
        """Take note of a pull."""
        self.pulls[arm] += 1
        self.damages[arm] += damage
        self.squares += damage**2
        self.lowest, self.highest = min(self.lowest, damage), max(self.highest, damage)


Choose: TypeAlias = Callable[[Arms], int]
"""Says which arm to pull next."""


def play(subject: Subject, choose: Choose) -> Mapping[str, Tensor]:
    """Play a bandit for every group; return the mean damage of every channel, `[size]` for each.

    A pull closes one channel and looks at the rise of the loss on one batch. All groups take their pulls on a batch
    together; the data is gone through again and again, in the order that the seed gives it.
    """
    trials = Trials(subject)
    seed = subject.calibration.seed
    bandits = {signal.key: Arms(signal.size, source(seed, signal.key)) for signal in trials.signals}
    playing = bandits
    for run in trials.endless() if bandits else ():
        for key, arms in playing.items():
            arm = arms.next(choose)
            arms.note(arm, run.rise({key: torch.tensor([arm])}))
        playing = {key: arms for key, arms in playing.items() if not arms.done}
        if not playing:
            break
    return {key: arms.means for key, arms in bandits.items()}


def source(seed: int, key: str) -> torch.Generator:
    """Return a source of randomness of its own for a group."""
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {key}".encode()))
