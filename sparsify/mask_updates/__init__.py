"""Mask updates, one rule per file: which weights a sparse training exchanges, and when.

A rule sees the masks, the weights and their dense gradients, and answers with new masks. The training loop does the
rest: it keeps what is pruned at zero, and lets what has grown start from zero.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.layout import Layout

__all__ = ["MaskUpdate", "Stats", "updates"]


@dataclass(frozen=True)
class Stats:
    """What a rule sees at a step.

    Attributes:
        step: how many steps are done, from 0.
        steps: in the whole run.
        masks: by parameter name, True where the weight is kept.
        weights: the live weights; pruned ones are zero.
        gradients: of this step's batch, also for pruned weights; a rule that `writes` may change them before the
            optimizer's step.
        learning_rate: of this step.
        generator: of the rule's randomness, seeded by the run's seed and the step, so that all processes agree.
    """

    step: int
    steps: int
    masks: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    learning_rate: float
    generator: torch.Generator


@dataclass
class MaskUpdate(ABC):
    """Base of all rules.

    Attributes:
        replaces_step: an update takes the place of the optimizer's step.
        constant: the number of weights never changes.
        writes: it writes to the weights or gradients that it sees.
        keeps_pruned: pruned weights go on living beside the masks, which the rule applies itself.
        dense: what is dense about the training, to be said in reports.
        pace: how many steps lie between updates unless somebody says it, `100it` or `1ep`; empty without updates.
        layouts: by parameter name how its layer reads it.
        state: what a rule remembers from step to step; checkpoints keep it.
    """

    replaces_step: ClassVar[bool] = False
    constant: ClassVar[bool] = True
    writes: ClassVar[bool] = False
    keeps_pruned: ClassVar[bool] = False
    dense: ClassVar[str] = ""
    pace: ClassVar[str] = ""

    layouts: Mapping[str, Layout] = field(default_factory=dict, init=False, repr=False)
    state: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def start(self, masks: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the masks to start from, given those of the program; called once, before the first step."""
        return masks

    def due(self, step: int, steps: int) -> bool:
        """Whether the masks are updated at a step."""
        return False

    def observe(self, stats: Stats) -> None:  # noqa: B027 -- most rules need not look
        """See every step's gradients before the optimizer does."""

    @abstractmethod
    def masks(self, stats: Stats) -> Mapping[str, Tensor]:
        """Return the new masks of all parameters that `stats` has masks of."""


def updates(rule: MaskUpdate, steps: int) -> int:
    """Return how many updates of the masks a rule has in a run of so many steps."""
    first = 0 if rule.replaces_step else 1  # instead of a step, or behind it
    return sum(rule.due(step, steps) for step in range(first, first + steps))
