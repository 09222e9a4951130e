"""Clustering: which channels do nearly the same."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["clusters"]


def clusters(vectors: Tensor, count: int) -> Tensor:
    """Join vectors until `count` clusters are left, always the two clusters of the highest mean cosine similarity.

    Takes time and memory quadratic in the number of vectors.

    Args:
        vectors: `[size, n]`.
        count: how many clusters there should be.

    Returns:
        For each vector the number of its cluster, int64 `[size]`; clusters are numbered by their first vector.

    Reference: Murtagh, "A Survey of Recent Advances in Hierarchical Clustering Algorithms", 1983 (the chain of nearest
    neighbours).
    """
    size = len(vectors)
    unit = vectors.double() / vectors.double().norm(dim=1, keepdim=True).clamp_min(1e-30)
    near = (unit @ unit.T).fill_diagonal_(-torch.inf)
    weight = torch.ones(size, dtype=torch.float64)
    alive = torch.ones(size, dtype=torch.bool)
    merges: list[tuple[float, int, int]] = []
    chain: list[int] = []
    while len(merges) < size - 1:
        if not chain:
            chain = [int(alive.nonzero()[0])]
        last = chain[-1]
        best = int(near[last].argmax())
        if len(chain) > 1 and near[last, chain[-2]] >= near[last, best]:
            best = chain[-2]
        if len(chain) < 2 or best != chain[-2]:
            chain.append(best)
            continue
        chain = chain[:-2]
        into, gone = min(last, best), max(last, best)
        merges.append((float(near[into, gone]), into, gone))
        joined = (near[into] * weight[into] + near[gone] * weight[gone]) / (weight[into] + weight[gone])
        joined[into] = -torch.inf
        near[into] = near[:, into] = joined
        near[gone] = near[:, gone] = -torch.inf
        weight[into] += weight[gone]
        alive[gone] = False
    return _cut(size, merges, count)


def _cut(size: int, merges: list[tuple[float, int, int]], count: int) -> Tensor:
    """Apply the merges of the most similar clusters, as many as leave `count` clusters."""
    home = list(range(size))

    def root(item: int) -> int:
        while home[item] != item:
            item = home[item]
        return item

    for _, one, other in sorted(merges, key=lambda merge: -merge[0])[: size - count]:
        a, b = sorted((root(one), root(other)))
        home[b] = a
    roots = [root(item) for item in range(size)]
    numbers = {found: number for number, found in enumerate(dict.fromkeys(roots))}
    return torch.tensor([numbers[found] for found in roots])
