"""Sharing out whole numbers in proportion."""

from __future__ import annotations

from collections.abc import Mapping

from sparsify.allocation import counts

__all__ = ["shared_out"]


def shared_out(total: int, worth: Mapping[str, float], room: Mapping[str, int]) -> dict[str, int]:
    """Divide `total` in proportion to what everyone is worth; nobody gets more than there is room for.

    What is over goes to the others, in the same proportion; the sum is exactly `total` where there is room for it.
    """
    total = min(total, sum(room.values()))
    full: dict[str, int] = {}
    while True:
        free = [name for name in room if name not in full]
        rest = total - sum(full.values())
        weight = sum(worth[name] for name in free)
        part = {name: rest * (worth[name] / weight if weight > 0 else 1 / len(free)) for name in free}
        over = [name for name in free if part[name] > room[name]]
        if not over:
            break
        full.update({name: room[name] for name in over})
    names = list(free)
    sizes = [room[name] for name in names]
    density = [1 - part[name] / max(1, room[name]) for name in names]
    return {**full, **dict(zip(names, counts(density, sizes, rest), strict=True))}
