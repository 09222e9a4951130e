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

    def size(self, name: str) -> int:
        """Return how many weights a tensor has."""
        return math.prod(self.shapes[name])

    def together(self, scored: Iterable[Scored], count: int) -> dict[str, Tensor]:
        """Prune the `count` lowest weights of all, or the lowest tiles that make up as nearly as many."""
        items = list(scored)
        kept = self._tiles(items, count) if isinstance(self.pattern, Block) else lowest(items, count)
        return {item.name: mask.view(self.shapes[item.name]) for item, mask in zip(items, kept, strict=True)}

    def apart(self, scored: Iterable[Scored], counts: Mapping[str, int]) -> dict[str, Tensor]:
        """Prune as many of each tensor as it says, its lowest; or keep N of M."""
        masks = {}
        for item in scored:
            if isinstance(self.pattern, NofM):
                masks[item.name] = self._n_of_m(self.pattern, item)
            else:
                masks |= self.together([item], counts[item.name])
        return masks

    def _n_of_m(self, pattern: NofM, item: Scored) -> Tensor:
        shape, layout = self.shapes[item.name], self.layouts[item.name]
        if layout.inputs == (len(shape) - 1,):  # in their order: never all scores at once
            return pattern.marks(item.pieces()).view(shape)
        return pattern.mask(dense_scores(item, shape), layout)

    def _tiles(self, items: list[Scored], count: int) -> list[Tensor]:
        """Return masks without the lowest tiles; of equal tiles the later ones go."""
        assert isinstance(self.pattern, Block)
        where = [(self.shapes[item.name], self.layouts[item.name]) for item in items]
        scores = [
            self.pattern.scores(dense_scores(item, shape), layout).cpu()
            for item, (shape, layout) in zip(items, where, strict=True)
        ]
        sizes = torch.cat([self.pattern.sizes(shape, layout) for shape, layout in where])
        order = len(sizes) - 1 - torch.cat(scores).flip(0).argsort(stable=True)
        gone = torch.cat([sizes.new_zeros(1), sizes[order].cumsum(0)])
        kept = torch.ones(len(sizes), dtype=torch.bool)
        kept[order[: int((gone - count).abs().argmin())]] = False
        parts = torch.split(kept, [len(values) for values in scores])
        return [self.pattern.mask(part, *place) for part, place in zip(parts, where, strict=True)]
