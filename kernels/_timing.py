"""Times of calls that compute the same, taken in turns; the least of each, which nobody else disturbed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

__all__ = ["least"]

_WARM, _CALLS = 2, 4  # calls of a turn that do not count, and that do
_TURNS = 5
_CACHE = 128 << 20  # bytes: more than the second-level cache of a GPU has
_AHEAD = 8  # times that the cache is emptied to keep a GPU busy: some 0.3 ms of the fastest


def least(
    calls: Mapping[str, Callable[[], object]], device: torch.device, *, seconds: float = 0.2, turns: int = _TURNS,
    launched: bool = False,
) -> dict[str, float]:  # fmt: skip
    """Return the least milliseconds of each call.

    A thread that waits for another that does not run costs a slice of the scheduler, milliseconds, in most calls on a
    busy machine: medians of short calls say nothing there.

    On a GPU its second-level cache is emptied before every call that counts, as the other layers of a model would.

    Args:
        calls: by name.
        device: where they compute.
        seconds: how long to measure in all, once each has had its turns.
        turns: how many each has at least.
        launched: a GPU is kept busy before every call that counts until all of it is launched, so that only what the
            GPU does is measured, as in a graph: starting a kernel may take longer than a small one runs.
    """
    once = _on_gpu(device, _AHEAD if launched else 1) if device.type == "cuda" else _on_cpu
    samples: dict[str, list[float]] = {name: [] for name in calls}
    end, turn = time.perf_counter() + seconds, 0
    while turn < turns or time.perf_counter() < end:
        for name in list(calls)[:: -1 if turn % 2 else 1]:
            for _ in range(_WARM):
                calls[name]()
            samples[name] += [once(calls[name]) for _ in range(_CALLS)]
        turn += 1
    return {name: min(values) for name, values in samples.items()}


def _on_cpu(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def _on_gpu(device: torch.device, flushes: int) -> Callable[[Callable[[], object]], float]:
    flushed = torch.empty(_CACHE, dtype=torch.int8, device=device)

    def once(call: Callable[[], object]) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        for _ in range(flushes):
            flushed.zero_()
        begin.record()
        call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))

    return once
