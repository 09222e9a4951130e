"""Allocation: from one sparsity for all layers to how much of each layer goes.

All functions work on numbers: the caller says what a layer is and what is counted (weights, or tiles of weights).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparsify.errors import PassError

__all__ = ["at_least", "counts", "erdos_renyi", "smart_ratios", "uniform"]


def counts(densities: Sequence[float], sizes: Sequence[int], total: int) -> list[int]:
    """Round densities to whole numbers that go of each layer, exactly `total` together.

    Layers get the rounded-down number first; what is missing goes one by one to the layers with the largest
    remainders, the first of equal ones first.

    Raises:
        PassError: fewer are there than should go.
    """
    if total > sum(sizes):
        raise PassError(f"{total} should go, but there are only {sum(sizes)}.")
    wanted = [size * (1 - density) for size, density in zip(sizes, densities, strict=True)]
    found = [max(0, min(size, math.floor(value + 1e-9))) for size, value in zip(sizes, wanted, strict=True)]
    order = sorted(range(len(sizes)), key=lambda i: (found[i] - wanted[i], i))
    while (missing := total - sum(found)) != 0:
        step = 1 if missing > 0 else -1
        movable = [i for i in (order if step > 0 else reversed(order)) if 0 <= found[i] + step <= sizes[i]]
        for i in movable[: abs(missing)]:
            found[i] += step
    return found


def at_least(counts: Sequence[int], floors: Sequence[int]) -> list[int]:
    """Raise numbers to their floors and lower the others in proportion to what they are above theirs.

    The sum stays where it can; it is that of the floors where they are more.
    """
    found = [max(count, floor) for count, floor in zip(counts, floors, strict=True)]
    over = sum(found) - sum(counts)
    slack = [value - floor for value, floor in zip(found, floors, strict=True)]
    over = min(over, sum(slack))
    if not over:
        return found
    shares = [over * part / sum(slack) for part in slack]
    taken = [math.floor(share) for share in shares]
    order = sorted(range(len(slack)), key=lambda i: (taken[i] - shares[i], i))
    for i in order[: over - sum(taken)]:
        taken[i] += 1
    return [value - less for value, less in zip(found, taken, strict=True)]


def uniform(sizes: Sequence[int], density: float, rates: Sequence[float]) -> list[float]:
    """Give every layer the same sparsity, times its rate: 1/2 for an output layer that is pruned half as fast.

    Reference: Frankle and Carbin, "The Lottery Ticket Hypothesis", 2019 (the rate of the output layer).
    """
    return [1 - share for share in _scaled(sizes, rates, 1 - density)]


def _scaled(sizes: Sequence[int], weights: Sequence[float], share: float) -> list[float]:
    """Return c·weight, at most one, for the c with which the mean over all sizes is `share`."""
    full: set[int] = set()
    while True:
        free = [i for i in range(len(sizes)) if i not in full]
        rest = share * sum(sizes) - sum(sizes[i] for i in full)
        c = max(0.0, rest / max(1e-30, sum(sizes[i] * weights[i] for i in free)))
        over = {i for i in free if c * weights[i] > 1 + 1e-12}
        if not over:
            return [1.0 if i in full else c * weights[i] for i in range(len(sizes))]
        full |= over


def erdos_renyi(
    shapes: Sequence[Sequence[int]], sizes: Sequence[int], density: float, *, kernel: bool = True
) -> list[float]:
    """Return densities ε (n_in + n_out + k) / (n_in n_out k): narrow layers stay denser.

    Layers whose density would exceed one are dense, and ε is solved again for the others.

    Args:
        shapes: of each layer outputs, inputs and the sizes of its kernel.
        sizes: how many units each layer has.
        density: of all layers together.
        kernel: count the kernel's sizes (ERK); without, outputs and inputs only (ER).

    Reference: Mocanu et al., "Scalable Training of Artificial Neural Networks with Adaptive Sparse Connectivity", 2018;
    Evci et al., "Rigging the Lottery: Making All Tickets Winners", 2020.
    """
    raw = []
    for shape in shapes:
        used = shape if kernel else shape[:2]
        raw.append(sum(used) / math.prod(used))
    return _scaled(sizes, raw, density)


def smart_ratios(sizes: Sequence[int], density: float, last: float = 0.3) -> list[float]:
    """Return densities that fall with depth, ∝ (L - l + 1)² + (L - l + 1) for layer l of L; the last layer keeps 30%.

    Where that is more than one a layer is dense and the others share the rest; the last one keeps more than 30% when
    all others are dense.

    Reference: Su et al., "Sanity-Checking Pruning Methods: Random Tickets can Win the Jackpot", 2020.
    """
    if len(sizes) < 2:
        return [density] * len(sizes)
    kept = density * sum(sizes)
    last = min(max(last, (kept - sum(sizes[:-1])) / max(1, sizes[-1])), kept / max(1, sizes[-1]))
    weights = [float(left**2 + left) for left in range(len(sizes), 1, -1)]  # left = L - l + 1
    rest = (kept - last * sizes[-1]) / max(1, sum(sizes[:-1]))
    return [*_scaled(sizes[:-1], weights, min(1.0, rest)), last]
