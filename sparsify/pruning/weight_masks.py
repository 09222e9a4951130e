"""Masks of weights: from scores, a pattern and how much of each layer goes to what stays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsify.layout import Layout
from sparsify.patterns import Block, NofM, Pattern
from sparsify.pruning.ranking import Scored, lowest
from sparsify.pruning.weight_scores import dense_scores

__all__ = ["Shaper"]


@dataclass(frozen=True)
class Shaper:
    """Makes masks of one pattern.

    Attributes:
        pattern: what is kept or pruned as a whole.
        shapes: of the weights, by name.
        layouts: how each is read.
    """

    pattern: Pattern
    shapes: Mapping[str, torch.Size]
    layouts: Mapping[str, Layout]

    def units(self, name: str) -> int:
        """Return into how many units the pattern divides a weight."""
        if not isinstance(self.pattern, Block):
            return math.prod(self.shapes[name])
        scores = self.pattern.scores(torch.empty(self.shapes[name], device="meta"), self.layouts[name])
        return scores.numel()

    def together(self, scored: Iterable[Scored], count: int) -> dict[str, Tensor]:
        """Prune the `count` lowest units of all weights."""
        found = [self._united(item) for item in scored]
        kept = lowest(found, count)
        return {item.name: self._mask(item.name, mask) for item, mask in zip(found, kept, strict=True)}

    def shares(self, scored: Iterable[Scored], count: int) -> dict[str, int]:
        """Return how many units of each weight are among the `count` lowest of all."""
        found = [self._united(item) for item in scored]
        kept = lowest(found, count)
        return {item.name: int((~mask).sum()) for item, mask in zip(found, kept, strict=True)}

    def apart(self, scored: Iterable[Scored], counts: Mapping[str, int]) -> dict[str, Tensor]:
        """Prune the lowest units of each weight, as many as it says; or keep N of M."""
        masks = {}
        for item in scored:
            if isinstance(self.pattern, NofM):
                scores = dense_scores(item, self.shapes[item.name])
                masks[item.name] = self.pattern.mask(scores, self.layouts[item.name])
            else:
                united = self._united(item)
                masks[item.name] = self._mask(item.name, lowest([united], counts[item.name])[0])
        return masks

    def _united(self, item: Scored) -> Scored:
        if not isinstance(self.pattern, Block):
            return item
        scores = dense_scores(item, self.shapes[item.name])
        tiles = self.pattern.scores(scores, self.layouts[item.name])
        return Scored(item.name, len(tiles), lambda: iter([tiles]))

    def _mask(self, name: str, kept: Tensor) -> Tensor:
        if isinstance(self.pattern, Block):
            return self.pattern.mask(kept, self.shapes[name], self.layouts[name])
        return kept.view(self.shapes[name])
