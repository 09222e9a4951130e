"""Latency of ONNX files in onnxruntime, measured side by side."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Latency", "measure"]

_WARM_UP = 5
_MIN_ROUNDS, _MAX_ROUNDS = 15, 500


@dataclass(frozen=True)
class Latency:
    """Time of one run of a model.

    Attributes:
        median: in milliseconds.
        low: first quartile, in milliseconds.
        high: third quartile, in milliseconds.
        runs: how many were timed.
        threads: how many onnxruntime used.
        batch: how many examples a run had.
    """

    median: float
    low: float
    high: float
    runs: int
    threads: int
    batch: int

    def as_dict(self) -> dict[str, float | int]:
        """Return the fields by name."""
        return asdict(self)


def measure(
    files: Sequence[str | Path],
    inputs: Sequence[Mapping[str, Any]],
    *,
    seconds: float = 2.0,
    threads: int | None = None,
) -> list[Latency]:
    """Time ONNX files in turns, so that what slows the machine down slows all of them.

    Args:
        files: what to run.
        inputs: for each file its arrays by input name.
        seconds: how long the measurement may take in all, once each file has had its least number of runs.
        threads: how many onnxruntime uses; all that this process may run on if not given.
    """
    import onnxruntime

    if threads is None:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # The threads of a session spin after its run, in wait for the next: they would slow down the other files' turns.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    sessions = [onnxruntime.InferenceSession(str(f), options, providers=["CPUExecutionProvider"]) for f in files]
    feeds = [
        {item.name: feed[item.name] for item in session.get_inputs()}
        for session, feed in zip(sessions, inputs, strict=True)
    ]
    for session, feed in zip(sessions, feeds, strict=True):
        for _ in range(_WARM_UP):
            session.run(None, feed)
    times: list[list[float]] = [[] for _ in sessions]
    end = time.perf_counter() + seconds
    while len(times[0]) < _MIN_ROUNDS or (time.perf_counter() < end and len(times[0]) < _MAX_ROUNDS):
        for session, feed, samples in zip(sessions, feeds, times, strict=True):
            start = time.perf_counter()
            session.run(None, feed)
            samples.append(1e3 * (time.perf_counter() - start))
    return [_summary(samples, feed, threads) for samples, feed in zip(times, feeds, strict=True)]


def _summary(samples: Sequence[float], feed: Mapping[str, Any], threads: int) -> Latency:
    low, median, high = statistics.quantiles(samples, n=4)
    first = next((array for array in feed.values() if array.ndim), None)
    return Latency(median, low, high, len(samples), threads, 1 if first is None else first.shape[0])
