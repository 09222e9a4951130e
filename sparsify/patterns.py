"""Patterns: what is pruned together, and which of it stays: single weights, N of every M, tiles.

`unstructured`; `2:4`, at most 2 weights in every 4 consecutive ones along the inputs of a layer; `block32x32` or
`block16x64`, tiles of rows (outputs) by columns (inputs), for each position of a convolution's kernel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sparsify.errors import UsageError
from sparsify.layout import Layout

__all__ = ["Block", "NofM", "Pattern", "Unstructured", "parse_pattern", "pattern_of"]

_PIECE = 1 << 20
_FEW = 8  # up to so many scores are ranked by comparing all pairs, which is faster than sorting them


class Pattern:
    """How the weights of a tensor are divided into units that are kept or pruned as a whole."""

    def reason(self, shape: Sequence[int], layout: Layout) -> str:
        """Return why a weight cannot have the pattern; empty if it can."""
        return ""


@dataclass(frozen=True)
class Unstructured(Pattern):
    """Every weight by itself."""

    def __str__(self) -> str:
        return "unstructured"


@dataclass(frozen=True)
class NofM(Pattern):
    """At most `n` weights that are not zero in every `m` consecutive ones along a layer's inputs.

    For a convolution these are input channels, at each position of the kernel.
    """

    n: int
    m: int

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    def reason(self, shape: Sequence[int], layout: Layout) -> str:
        """Return why a weight cannot have the pattern: groups of m must fill its inputs."""
        size = layout.input_size(shape)
        return "" if size % self.m == 0 else f"the number of its inputs, {size}, is no multiple of {self.m}"

    def mask(self, scores: Tensor, layout: Layout) -> Tensor:
        """Keep the n highest of every m scores, the first ones of equal scores; the weight's shape."""
        along = layout.along_inputs(scores)
        return layout.from_inputs(self.marks([along.reshape(-1)]).view(along.shape), scores.shape)

    def marks(self, pieces: Iterable[Tensor]) -> Tensor:
        """As `mask` for flat scores that come in pieces and have the groups of m one after the other."""
        kept: list[Tensor] = []
        rest: Tensor | None = None
        for piece in pieces:
            for part in torch.split(piece, _PIECE):
                scores = part if rest is None else torch.cat([rest, part])
                whole = len(scores) // self.m * self.m
                kept.append(self._kept(scores[:whole].view(-1, self.m)).flatten())
                rest = scores[whole:] if whole < len(scores) else None
        return torch.cat(kept)

    def _kept(self, rows: Tensor) -> Tensor:
        if self.m > _FEW:
            order = rows.argsort(dim=1, descending=True, stable=True)[:, : self.n]
            return torch.zeros_like(rows, dtype=torch.bool).scatter_(1, order, True)
        columns = rows.unbind(1)
        kept = []
        for i, own in enumerate(columns):
            better = [(other >= own if j < i else other > own).byte() for j, other in enumerate(columns) if j != i]
            kept.append(torch.stack(better).sum(0, dtype=torch.uint8) < self.n)
        return torch.stack(kept, 1)


@dataclass(frozen=True)
class Block(Pattern):
    """Tiles of `rows` outputs by `columns` inputs; those at the edges may be smaller."""

    rows: int
    columns: int

    def __str__(self) -> str:
        return f"block{self.rows}x{self.columns}"

    def reason(self, shape: Sequence[int], layout: Layout) -> str:
        """Return why a weight cannot have the pattern: a single number has no rows."""
        return "" if shape else "it is a single number"

    def scores(self, scores: Tensor, layout: Layout) -> Tensor:
        """Return the mean score of each tile, flat; weights that score minus infinity add nothing to their tile."""
        planes = _planes(scores, layout)
        lost = planes.isneginf()
        sums, left = self._sums(planes.masked_fill(lost, 0.0)), self._sums((~lost).to(planes.dtype))
        sizes = self._sums(torch.ones_like(planes[:1]))
        return torch.where(left > 0, sums / sizes, -torch.inf).flatten()

    def sizes(self, shape: Sequence[int], layout: Layout) -> Tensor:
        """Return how many weights each tile of a weight of a shape has, flat."""
        planes = _planes(torch.empty(tuple(shape), device="meta"), layout).shape
        return self._sums(torch.ones(1, *planes[1:])).expand(planes[0], -1, -1).flatten().long()

    def mask(self, kept: Tensor, shape: Sequence[int], layout: Layout) -> Tensor:
        """Return which weights of a tensor of a shape are in the tiles that are kept."""
        planes = _planes(torch.empty(tuple(shape), device="meta"), layout)
        count, outputs, inputs = planes.shape
        grid = kept.view(count, math.ceil(outputs / self.rows), math.ceil(inputs / self.columns))
        whole = grid.repeat_interleave(self.rows, 1)[:, :outputs].repeat_interleave(self.columns, 2)[:, :, :inputs]
        return _from_planes(whole, shape, layout)

    def _sums(self, planes: Tensor) -> Tensor:
        below, right = -planes.shape[1] % self.rows, -planes.shape[2] % self.columns
        padded = F.pad(planes, (0, right, 0, below))
        count, outputs, inputs = padded.shape
        return padded.view(count, outputs // self.rows, self.rows, inputs // self.columns, self.columns).sum((2, 4))


def parse_pattern(text: str) -> Pattern:
    """Return the pattern that is written as `unstructured`, `2:4`, `block32` or `block16x64`.

    Raises:
        UsageError: the text is none of these, or N of M is impossible or prunes nothing.
    """
    if text == "unstructured":
        return Unstructured()
    if match := re.fullmatch(r"(\d+):(\d+)", text):
        n, m = int(match[1]), int(match[2])
        if not 0 < n < m:
            raise UsageError(f"pattern={text} is impossible: it keeps N of every M weights, with 0 < N < M.")
        return NofM(n, m)
    if match := re.fullmatch(r"block(\d+)(?:x(\d+))?", text):
        rows, columns = int(match[1]), int(match[2] or match[1])
        if min(rows, columns) < 1:
            raise UsageError(f"pattern={text}: a tile has at least one row and one column.")
        return Block(rows, columns)
    raise UsageError(f"There is no pattern {text!r}. There are unstructured, N:M (2:4) and blockBxB (block32x32).")


def pattern_of(mask: Tensor, layout: Layout) -> Pattern:
    """Recognise the pattern of a mask: N of every M, the largest tiles that it is made of, or single weights.

    A mask of single weights has another pattern by chance only if it is tiny.
    """
    if mask.ndim < 2:
        return Unstructured()
    along = layout.along_inputs(mask)
    size = along.shape[-1]
    for m in range(2, size + 1):
        if size % m == 0:
            counts = along.reshape(-1, m).sum(1)
            if 0 < int(counts[0]) < m and bool((counts == counts[0]).all()):
                return NofM(int(counts[0]), m)
    planes = _planes(mask, layout)
    rows, columns = (_step(planes, dim) for dim in (1, 2))
    return Block(rows, columns) if rows * columns > 1 else Unstructured()


def _step(planes: Tensor, dim: int) -> int:
    """Return the largest number of which all places are multiples where planes change along a dimension."""
    size = planes.shape[dim]
    changed = planes.narrow(dim, 1, size - 1) != planes.narrow(dim, 0, size - 1)
    return math.gcd(*(1 + changed.transpose(0, dim).flatten(1).any(1).nonzero().flatten()).tolist()) or size


def _planes(value: Tensor, layout: Layout) -> Tensor:
    """Return a tensor of a weight's shape as planes `[count, outputs, inputs]`, one for each position of a kernel."""
    parts = _plane_dims(layout)
    sizes = [math.prod(value.shape[dim] for dim in dims) for dims in parts]
    return value.permute([dim for dims in parts for dim in dims]).reshape(sizes)


def _from_planes(planes: Tensor, shape: Sequence[int], layout: Layout) -> Tensor:
    order = [dim for dims in _plane_dims(layout) for dim in dims]
    return planes.reshape([shape[dim] for dim in order]).permute([order.index(dim) for dim in range(len(shape))])


def _plane_dims(layout: Layout) -> tuple[tuple[int, ...], ...]:
    """Return the dimensions of a weight that count its planes, that are their rows and their columns."""
    rows, columns = layout.outputs[:1], layout.inputs
    return tuple(dim for dim in layout.order if dim not in (*rows, *columns)), rows, columns
