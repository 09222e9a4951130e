"""Quantities as people read them: counts, sizes, times, shares."""

from __future__ import annotations

__all__ = ["change", "count", "share", "size", "time", "time_range"]

_ROUNDS_UP = 0.999995  # 999,995 would be 1000.00k


def count(value: float) -> str:
    """Write a count: 25.56M."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= _ROUNDS_UP * scale:
            return f"{value / scale:.2f}{unit}"
    return f"{value:g}"


def size(value: float) -> str:
    """Write a number of bytes: 97.47 MiB."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= _ROUNDS_UP * scale:
            return f"{value / scale:.2f} {unit}"
    return f"{value} B"


def change(before: float, after: float) -> str:
    """Write a relative change: -20.1%."""
    return f"{100 * (after - before) / before:+.1f}%" if before else ""


def share(value: float) -> str:
    """Write a part of a whole: 97.8%; only nothing is 0% and only all is 100%."""
    if value in (0, 1):
        return f"{value:.0%}"
    return "<0.1%" if value < 0.001 else ">99.9%" if value > 0.999 else f"{value:.1%}"


def time(milliseconds: float) -> str:
    """Write a time: 27.5 µs."""
    for unit, scale in (("s", 1e3), ("ms", 1.0)):
        if milliseconds >= scale:
            return f"{milliseconds / scale:.2f} {unit}"
    return f"{1e3 * milliseconds:.1f} µs"


def time_range(low: float, high: float) -> str:
    """Write two times with one unit: 27.2-29.3 µs."""
    first, second = time(low), time(high)
    return f"{first.split()[0]}-{second}" if first.split()[1] == second.split()[1] else f"{first}-{second}"
