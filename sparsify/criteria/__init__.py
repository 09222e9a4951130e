"""Saliency criteria, one per file: the file's name is the criterion's name, a higher score means keep.

A criterion never sees a graph, a mask or a group. It scores the single weights of a tensor, or a block as a whole,
from the statistics that it declares in `needs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

__all__ = ["BlockStats", "Criterion", "Need", "WeightStats"]

Need = Literal["gradient", "hessian_gradient", "influence", "damage"]


@dataclass(frozen=True)
class WeightStats:
    """What may be known of one weight tensor; a statistic that the criterion did not ask for is None.

    Attributes:
        weight: the tensor itself, of any shape.
        gradient: mean gradient of the loss, of the same shape.
        hessian_gradient: Hessian times gradient of the loss at a softened output, of the same shape.
        generator: the source of randomness, seeded by the run's seed and the tensor's name.
    """

    weight: Tensor
    generator: torch.Generator
    gradient: Tensor | None = None
    hessian_gradient: Tensor | None = None

    def rows(self, count: int) -> Iterator[WeightStats]:
        """Yield the same for so many rows of the tensor at a time."""
        for start in range(0, len(self.weight), count):
            piece = slice(start, start + count)
            yield replace(
                self,
                weight=self.weight[piece],
                gradient=None if self.gradient is None else self.gradient[piece],
                hessian_gradient=None if self.hessian_gradient is None else self.hessian_gradient[piece],
            )


@dataclass(frozen=True)
class BlockStats:
    """What may be known of one block.

    Attributes:
        weights: statistics of the weight matrices and kernels that go away with the block.
        influence: 1 - cosine between what goes into the block and what comes out of it.
        damage: how much worse the loss (or how different the output) is without the block.
        generator: the source of randomness, seeded by the run's seed and the block's name.
    """

    weights: Sequence[WeightStats]
    generator: torch.Generator
    influence: float | None = None
    damage: float | None = None


class Criterion:
    """Base of all criteria; a subclass defines `weight`, or `block`, or both.

    Attributes:
        needs: the statistics that it uses.
        additive: a score is an estimated change of the loss, so that sums of scores compare across layers as they
            are. Other scores are compared within a group, or relative to its mean.
        elementwise: the score of a weight depends on the statistics at its own place alone, so that a large tensor
            may be scored in pieces that fit the processor's cache.
    """

    needs: ClassVar[tuple[Need, ...]] = ()
    additive: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False

    def weight(self, stats: WeightStats) -> Tensor:
        """Score every weight of a tensor.

        Returns:
            Scores of the weight's shape.

        Raises:
            TypeError: the criterion scores blocks only.
        """
        raise TypeError(f"{type(self).__name__} does not score single weights")

    def block(self, stats: BlockStats) -> float:
        """Score a block; by default the mean score of its weights, so that stages of different width compare.

        Reference: Jordao et al., "Layer Pruning with Consensus" and the layer lottery: norms of whole layers are not
        comparable across stages, per-weight means are.
        """
        total = sum(float(self.weight(item).double().sum()) for item in stats.weights)
        return total / max(1, sum(item.weight.numel() for item in stats.weights))


def needed(value: Tensor | None) -> Tensor:
    """Return a statistic that the criterion declared in `needs`."""
    assert value is not None, "the statistic is collected because the criterion declares it in `needs`"
    return value
