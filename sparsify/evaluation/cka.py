"""CKA: centred kernel alignment, how alike two sets of features of the same examples are.

Linear CKA is HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)) with the Gram matrices K = X Xᵀ and L = Y Yᵀ of features X `[n, p]`
and Y `[n, q]`. It is 1 for features that agree up to a rotation and a common scale, whatever p and q are. With the
usual estimator of HSIC, tr(K H L H), the features need fewer dimensions than there are examples: features of pure noise
that have many more come out nearly 1. The debiased one, of Song et al., does not have that flaw; it may be negative.

Reference: Kornblith, Norouzi, Lee and Hinton, Similarity of Neural Network Representations Revisited, 2019; Song,
Smola, Gretton, Bedo and Borgwardt, Feature Selection via Dependence Maximization, 2012; Nguyen, Raghu and Kornblith,
Do Wide and Deep Networks Learn the Same Things?, 2021 (means over minibatches).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LEAST", "GramMeans", "Moments", "aligned", "centred_hsic", "debiased_hsic", "gram", "linear_cka"]

LEAST = 4  # examples, below which the debiased estimator is not defined
_SLICE = 1 << 14  # features that are turned into float64 at once


def linear_cka(x: Tensor, y: Tensor, *, debiased: bool = False) -> float:
    """Return the linear CKA of two sets of features, computed in float64.

    The smaller of the two equal forms is computed: with features `[p, q]`, or with examples `[n, n]`.

    Args:
        x: `[n, p]`.
        y: `[n, q]`, of the same examples in the same order.
        debiased: use the debiased estimator, which needs four examples at least.

    Returns:
        A number up to 1 (but for rounding); not a number where one of the two does not vary.

    Raises:
        ValueError: the numbers of examples differ, or are too small.
    """
    if len(x) != len(y) or len(x) < (LEAST if debiased else 2):
        raise ValueError(f"CKA of {len(x)} and {len(y)} examples; it needs as many of both, and several")
    if max(x.shape[1], y.shape[1]) <= len(x):
        moments = Moments()
        moments.add(x, y)
        return moments.debiased() if debiased else moments.cka()
    one, other = gram(x), gram(y)
    return aligned(debiased_hsic if debiased else centred_hsic, one, other)


def aligned(hsic: Callable[[Tensor, Tensor], float], one: Tensor, other: Tensor) -> float:
    """Return the alignment of two Gram matrices by an estimator of HSIC."""
    return ratio(hsic(one, other), hsic(one, one), hsic(other, other))


def ratio(cross: float, one: float, other: float) -> float:
    """Return cross / √(one · other); not a number where that is not defined."""
    return cross / math.sqrt(one * other) if one > 0 and other > 0 else math.nan


def gram(x: Tensor) -> Tensor:
    """Return X Xᵀ `[n, n]` in float64, of features that the mean is taken from, which changes no HSIC but rounding."""
    found = torch.zeros(len(x), len(x), dtype=torch.float64, device=x.device)
    for part in torch.split(x, _SLICE, 1):
        wide = part.double()
        wide = wide - wide.mean(0)
        found += wide @ wide.T
    return found


def centred_hsic(one: Tensor, other: Tensor) -> float:
    """Return tr(K H L H) of Gram matrices `[n, n]`, with H = I - 1/n; a factor that CKA divides out is left out."""
    return float((_centred(one) * _centred(other)).sum())


def _centred(matrix: Tensor) -> Tensor:
    return matrix - matrix.mean(0) - matrix.mean(1, keepdim=True) + matrix.mean()


def debiased_hsic(one: Tensor, other: Tensor) -> float:
    """Return the debiased estimator of HSIC from Gram matrices `[n, n]` of at least four examples.

    (tr(K̃L̃) + 1ᵀK̃1 1ᵀL̃1 / ((n-1)(n-2)) - 2 1ᵀK̃L̃1 / (n-2)) / (n(n-3)), where K̃ and L̃ are K and L with zeros on the
    diagonal.
    """
    first, second = (matrix - matrix.diag().diag() for matrix in (one, other))
    rows, columns = first.sum(0), second.sum(0)
    return _song(
        len(one), float((first * second).sum()), float(rows.sum()), float(columns.sum()), float(rows @ columns)
    )


def _song(n: int, product: float, one: float, other: float, both: float) -> float:
    return (product + one * other / ((n - 1) * (n - 2)) - 2 * both / (n - 2)) / (n * (n - 3))


class Moments:
    """What CKA takes of two sets of features, gathered batch by batch in float64; exact whatever the batches are.

    Gathered is Σ wᵢ wᵢᵀ of wᵢ = (‖xᵢ‖², xᵢ, 1, ‖yᵢ‖², yᵢ), where the mean of the first batch is taken from x and y
    before, against cancellation. The rest of the mean, m, is taken at the end: ‖xᵢ - m‖² is the product of
    (1, -2m, m·m) and (‖xᵢ‖², xᵢ, 1).
    """

    def __init__(self) -> None:
        self.count = 0
        self._first: tuple[Tensor, Tensor] | None = None
        self._sums: Tensor | float = 0.0

    def add(self, one: Tensor, other: Tensor) -> None:
        """Add features `[n, p]` and `[n, q]` of the same examples."""
        x, y = one.double(), other.double()
        if self._first is None:
            self._first = x.mean(0), y.mean(0)
        x, y = x - self._first[0], y - self._first[1]
        squares = [value.square().sum(1, keepdim=True) for value in (x, y)]
        rows = torch.cat([squares[0], x, torch.ones_like(squares[0]), squares[1], y], 1)
        self._sums = self._sums + rows.T @ rows
        self.count += len(one)

    def cka(self) -> float:
        """Return ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖) of centred features; not a number where one of the two does not vary."""
        found = self._centred()
        return ratio(*(float(block.square().sum()) for block, _, _, _ in found)) if found else math.nan

    def debiased(self) -> float:
        """Return CKA with the debiased estimator; not a number where that is not defined.

        Of centred features K1 = L1 = 0, so that K̃1 = -diag(K): with kᵢ = ‖xᵢ‖² and lᵢ = ‖yᵢ‖², tr(K̃L̃) is
        ‖XᵀY‖² - Σ kᵢlᵢ, 1ᵀK̃1 is -Σ kᵢ and 1ᵀK̃L̃1 is Σ kᵢlᵢ.
        """
        if self.count < LEAST:
            return math.nan
        found = self._centred()
        return ratio(
            *(
                _song(self.count, float(block.square().sum()) - both, -one, -other, both)
                for block, both, one, other in found
            )
        )

    def constant(self) -> bool:
        """Whether neither set of features varies."""
        return all(not bool(block.any()) for block, _, _, _ in self._centred()[1:])

    def _centred(self) -> list[tuple[Tensor, float, float, float]]:
        """Return AᵀB, Σ kᵢlᵢ, Σ kᵢ and Σ lᵢ of centred features A and B, which are X and Y, X and X, Y and Y."""
        if self._first is None:
            return []
        sums, count, width = self._sums, self.count, len(self._first[0])
        assert isinstance(sums, Tensor)
        one = width + 1  # where the ones are
        places = {"x": (slice(1, one), 0), "y": (slice(one + 2, None), one + 1)}
        means = {name: sums[features, one] / count for name, (features, _) in places.items()}
        rows = {
            name: torch.cat([torch.ones_like(m[:1]), -2 * m, (m @ m)[None]]) for name, m in means.items()
        }  # what makes a square of the centred features
        index = torch.arange(len(sums), device=sums.device)
        parts = {name: torch.cat([index[square, None], index[features], index[one, None]])
                 for name, (features, square) in places.items()}  # fmt: skip
        found = []
        for a, b in (("x", "y"), ("x", "x"), ("y", "y")):
            block = sums[places[a][0], places[b][0]] - count * torch.outer(means[a], means[b])
            both = rows[a] @ sums[parts[a]][:, parts[b]] @ rows[b]
            k, l = (float(rows[name] @ sums[parts[name], one]) for name in (a, b))  # noqa: E741
            found.append((block, float(both), k, l))
        return found


@dataclass
class GramMeans:
    """Means over minibatches of the debiased HSIC, for features that are too many for `Moments`.

    Each batch counts by its examples; one with less than four is left out. The means converge to what all examples
    together give, whatever the size of the batches is.
    """

    count: int = 0
    _cross: float = 0.0
    _one: float = 0.0
    _other: float = 0.0

    def add(self, one: Tensor, other: Tensor) -> None:
        """Add the Gram matrices `[n, n]` of a batch."""
        n = len(one)
        if n < LEAST:
            return
        self.count += n
        self._cross += n * debiased_hsic(one, other)
        self._one += n * debiased_hsic(one, one)
        self._other += n * debiased_hsic(other, other)

    def debiased(self) -> float:
        """Return CKA with the debiased estimator; not a number where that is not defined."""
        return ratio(self._cross, self._one, self._other)
