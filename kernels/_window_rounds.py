"""Which weights of sixteen rows are multiplied together, in which window of the columns; compiled by numba."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from sparsify.kernels._windows import ALIGNED, LANES, STEPS, WINDOWS

__all__ = ["schedule"]

_EACH = STEPS // WINDOWS


@njit(error_model="numpy")
def _schedule(columns, offsets, last, order, weights, values, codes, bases, starts, write) -> int:  # type: ignore[no-untyped-def]
    """Return how many rounds rows take in an order, and write them; a lane takes a weight as soon as a window has it.

    A window begins where the first of the columns is that lanes have next, so with ascending columns no other sequence
    of windows needs fewer rounds.
    """
    here, end = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    done = 0
    for first in range(0, len(order), LANES):
        end[:] = here
        for lane in range(min(LANES, len(order) - first)):
            here[lane], end[lane] = offsets[order[first + lane]], offsets[order[first + lane] + 1]
        while (here < end).any():
            for window in range(WINDOWS):
                base = _begin(columns, here, end, last)
                if write:
                    bases[done, window] = base
                for step in range(window * _EACH, (window + 1) * _EACH):
                    for lane in range(LANES):
                        column = columns[here[lane]] - base * ALIGNED if here[lane] < end[lane] else 2 * ALIGNED
                        if column < 2 * ALIGNED:
                            if write:
                                values[done, step, lane] = weights[here[lane]]
                                codes[done, lane] |= column << (5 * step)
                            here[lane] += 1
            done += 1
        if write:
            starts[first // LANES + 1] = done
    return done


@njit(error_model="numpy")
def _begin(columns, here, end, last) -> int:  # type: ignore[no-untyped-def]
    """Return where the window of the first column begins that a lane has left."""
    base = last
    for lane in range(LANES):
        if here[lane] < end[lane]:
            base = min(base, columns[here[lane]] // ALIGNED)
    return int(base)


schedule: Callable[..., int] = _schedule
