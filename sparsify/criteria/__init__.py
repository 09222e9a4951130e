"""Saliency criteria, one per file: the file's name is the criterion's name, a higher score means keep.

A criterion never sees a graph, a mask or a group. It scores the single weights of a tensor, the channels of a group or
a block as a whole, from their values and from the statistics that it declares in `needs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from sparsify.layout import Layout

__all__ = ["BlockStats", "ChannelStats", "Criterion", "Scope", "WeightStats"]

Scope: TypeAlias = Literal["weights", "channels", "blocks"]

_ROWS = Layout((0,), (1,))


@dataclass(frozen=True, kw_only=True)
class _Known:
    """Statistics by their names, and a source of randomness seeded by the run's seed and the name of what is scored."""

    generator: torch.Generator
    found: Mapping[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, need: str) -> Tensor:
        """Return a statistic that the criterion declares in `needs`."""
        return self.found[need]


@dataclass(frozen=True, kw_only=True)
class WeightStats(_Known):
    """What may be known of one weight tensor.

    Attributes:
        weight: the tensor itself, of any shape; masked weights are zeros.
        layout: how its layer reads it; by default as `weight_OI`.
    """

    weight: Tensor
    layout: Layout = _ROWS

    def rows(self, count: int) -> Iterator[WeightStats]:
        """Yield the same for so many rows of the tensor at a time."""
        for start in range(0, len(self.weight), count):
            piece = slice(start, start + count)
            found = {name: value if len(value) == 1 else value[piece] for name, value in self.found.items()}
            yield replace(self, weight=self.weight[piece], found=found)


@dataclass(frozen=True, kw_only=True)
class ChannelStats(_Known):
    """What may be known of the channels, heads, ... of a group.

    Attributes:
        size: how many there are.
        made: for each weight that makes them, one row for each: `[size, weights]`; a filter is a row.
        used: for each weight that reads them, likewise.
        scales: scales of norms over them, each `[size, scales]`.
    """

    size: int
    made: Sequence[Tensor] = ()
    used: Sequence[Tensor] = ()
    scales: Sequence[Tensor] = ()


@dataclass(frozen=True, kw_only=True)
class BlockStats(_Known):
    """What may be known of one block.

    Attributes:
        weights: statistics of the weight matrices and kernels that go away with the block.
        channels: statistics of the channels of what the block adds.
    """

    weights: Sequence[WeightStats] = ()
    channels: ChannelStats | None = None


class Criterion:
    """Base of all criteria; a subclass defines `weight`, `channel`, `block`, or several of them.

    Attributes:
        scores: what it can score: weights; channels, by default with the sum of their weights' scores; blocks, by
            default with the mean of their weights' or channels' scores.
        needs: the statistics that it uses, by name.
        additive: a score is an estimated change of the loss, so that sums of scores compare across layers as they
            are. Other scores are compared within a group, or relative to its mean.
        per_layer: scores of weights of different layers do not compare, so that by default each layer is ranked by
            itself.
        elementwise: the score of a weight depends on the statistics at its own place alone, so that a large tensor
            may be scored in pieces that fit the processor's cache.
        rounds: in how many rounds weights should be pruned by it; it is asked again after each.
        regrow: weights that were pruned in a round may return in a later one; the statistics are then those of the
            pruned program, the weights those before pruning.
    """

    scores: ClassVar[tuple[Scope, ...]] = ("weights", "channels", "blocks")
    needs: ClassVar[tuple[str, ...]] = ()
    additive: ClassVar[bool] = False
    per_layer: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False
    rounds: ClassVar[int] = 1
    regrow: ClassVar[bool] = False

    def weight(self, stats: WeightStats) -> Tensor:
        """Score every weight of a tensor.

        Returns:
            Scores of the weight's shape.

        Raises:
            TypeError: the criterion does not score weights.
        """
        raise TypeError(f"{type(self).__name__} does not score single weights")

    def channel(self, stats: ChannelStats) -> Tensor:
        """Score every channel of a group; without it a channel's score is the sum over its weights in all layers.

        Returns:
            Scores `[size]`.

        Raises:
            TypeError: the criterion does not score channels.
        """
        raise TypeError(f"{type(self).__name__} does not score channels as such")

    def block(self, stats: BlockStats) -> float:
        """Score a block; by default the mean score of its weights, or else of the channels of what it adds.

        Norms of whole layers are not comparable across stages of different width, means are.

        Reference: Jordao et al., "When Layers Play the Lottery, all Tickets Win at Initialization", 2023.
        """
        if type(self).weight is Criterion.weight and stats.channels is not None:
            return float(self.channel(stats.channels).double().mean())
        known = [item for item in stats.weights if all(need in item.found for need in self.needs)]
        total = sum(float(self.weight(item).double().sum()) for item in known)
        return total / max(1, sum(item.weight.numel() for item in known))
