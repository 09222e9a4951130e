"""Latency of models, measured side by side, and whether a difference is more than noise.

Models run in turns, so that what slows the machine down slows all of them. A session is one loading of all models: two
sessions of the same file differ by about a percent, for its memory lies elsewhere. So a speed is compared in several
sessions, each of which counts once, and the interval is that of their mean.
"""

from __future__ import annotations

import itertools
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sparsify.inputs import batch_of

__all__ = ["SESSIONS", "Latency", "Run", "Speed", "compare", "in_turns", "measure", "onnx_run", "threads_here"]

Run = Callable[[], object]

SESSIONS = 8
_FEWEST = 3
_STUDENT = {3: 9.925, 4: 5.841, 5: 4.604, 6: 4.032, 7: 3.707, 8: 3.499}
"""The 99.5% quantile of Student's t with a degree of freedom less than there are sessions."""
_WARM_UP = 5
_WARM = 0.5  # seconds after which a model is warm, however few its runs were
_MIN_ROUNDS = 15  # in all sessions together
_MAX_ROUNDS = 500  # in each


@dataclass(frozen=True)
class Latency:
    """Time of one run of a model.

    Attributes:
        median: in milliseconds.
        low: first quartile, in milliseconds.
        high: third quartile, in milliseconds.
        runs: how many were timed.
        threads: how many it used.
        batch: how many examples a run had.
    """

    median: float
    low: float
    high: float
    runs: int
    threads: int
    batch: int

    @classmethod
    def of(cls, samples: Sequence[float], threads: int, batch: int) -> Latency:
        """Summarize times in milliseconds."""
        low, median, high = statistics.quantiles(samples, n=4)
        return cls(median, low, high, len(samples), threads, batch)

    def as_dict(self) -> dict[str, float | int]:
        """Return the fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class Speed:
    """How many times as fast as another model one is.

    Attributes:
        ratio: the geometric mean over sessions of the median of times in turns, theirs over its own.
        low: lower end of the 99% interval.
        high: upper end.
    """

    ratio: float
    low: float
    high: float

    @classmethod
    def of(cls, other: Sequence[Sequence[float]], own: Sequence[Sequence[float]]) -> Speed:
        """Compare times, session by session.

        Raises:
            ValueError: there are less than 3 sessions, or more than `SESSIONS`.
        """
        logs = [
            statistics.median(math.log(a / b) for a, b in zip(*pair, strict=True))
            for pair in zip(other, own, strict=True)
        ]
        if len(logs) not in _STUDENT:
            raise ValueError(f"the interval is that of {_FEWEST} to {SESSIONS} sessions, not of {len(logs)}")
        mean, error = statistics.mean(logs), _STUDENT[len(logs)] * statistics.stdev(logs) / math.sqrt(len(logs))
        return cls(math.exp(mean), math.exp(mean - error), math.exp(mean + error))

    @property
    def verdict(self) -> str:
        """Whether it is faster, slower, or within noise."""
        return "faster" if self.low > 1 else "slower" if self.high < 1 else "within noise"

    def as_dict(self) -> dict[str, float | str]:
        """Return the fields and the verdict by name."""
        return {**asdict(self), "verdict": self.verdict}


def in_turns(
    starts: Sequence[Callable[[], Run]], *, seconds: float, sessions: int = 1, loading: float | None = None
) -> list[list[list[float]]]:
    """Time models in turns.

    Args:
        starts: what loads each model, and returns what runs it once.
        seconds: how long it may take in all, once each model has had its least number of runs in each session.
        sessions: how often all are loaded again.
        loading: the seconds that loading and warming up may take in all; the first session says how many of them fit,
            three at least. Without, all are held.

    Returns:
        For each model and session the milliseconds of its runs; the same place in two of them is the same turn.
    """
    times: list[list[list[float]]] = [[] for _ in starts]
    while len(times[0]) < sessions:
        begun = time.perf_counter()
        runs = [start() for start in starts]
        for run in runs:
            _warm_up(run)
        if loading is not None and not times[0]:
            cost = time.perf_counter() - begun
            sessions = min(sessions, max(_FEWEST, int(loading / cost) if cost else sessions))
        found = _session(runs, seconds / sessions, -(-_MIN_ROUNDS // sessions))
        for mine, samples in zip(times, found, strict=True):
            mine.append(samples)
    return times


def _warm_up(run: Run) -> None:
    end = time.perf_counter() + _WARM
    for _ in range(_WARM_UP):
        run()
        if time.perf_counter() > end:
            return


def _session(runs: Sequence[Run], seconds: float, least: int) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in runs]
    places, end = list(range(len(runs))), time.perf_counter() + seconds
    while len(times[0]) < least or (time.perf_counter() < end and len(times[0]) < _MAX_ROUNDS):
        for place in places:
            start = time.perf_counter()
            runs[place]()
            times[place].append(1e3 * (time.perf_counter() - start))
        places.reverse()  # what runs behind another finds the cache as that one left it
    return times


def measure(
    files: Sequence[str | Path],
    inputs: Sequence[Mapping[str, Any]],
    *,
    seconds: float = 2.0,
    threads: int | None = None,
) -> list[Latency]:
    """Time ONNX files in turns, in one session.

    Args:
        files: what to run.
        inputs: for each file its arrays by input name.
        seconds: how long the measurement may take in all, once each file has had its least number of runs.
        threads: how many onnxruntime uses; all that this process may run on if not given.
    """
    count = threads or threads_here()
    starts = [partial(onnx_run, file, feed, count) for file, feed in zip(files, inputs, strict=True)]
    found = in_turns(starts, seconds=seconds)
    return [Latency.of(samples[0], count, batch_of(feed.values())) for samples, feed in zip(found, inputs, strict=True)]


def compare(
    files: Sequence[str | Path],
    inputs: Sequence[Mapping[str, Any]],
    *,
    seconds: float = 2.0,
    threads: int | None = None,
) -> tuple[Latency, Latency, Speed]:
    """Time two ONNX files in turns; return their latencies, and how many times as fast the second is.

    They are loaded eight times, or as often as loading them takes no more than twice `seconds`, three times at least:
    with fewer sessions the interval is wider.

    Args:
        files: two of them.
        inputs: for each file its arrays by input name.
        seconds: how long the timed runs may take in all.
        threads: how many onnxruntime uses; all that this process may run on if not given.
    """
    count = threads or threads_here()
    starts = [partial(onnx_run, file, feed, count) for file, feed in zip(files, inputs, strict=True)]
    first, second = in_turns(starts, seconds=seconds, sessions=SESSIONS, loading=2 * seconds)
    one, two = (
        Latency.of(list(itertools.chain.from_iterable(own)), count, batch_of(feed.values()))
        for own, feed in zip((first, second), inputs, strict=True)
    )
    return one, two, Speed.of(first, second)


def onnx_run(file: str | Path, feed: Mapping[str, Any], threads: int, provider: str = "CPUExecutionProvider") -> Run:
    """Load an ONNX file; return what runs it on some arrays; those that it does not know are left out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # The threads of a session spin after its run, in wait for the next: they would slow down the other files' turns.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(file), options, providers=[provider])
    known = {item.name: feed[item.name] for item in session.get_inputs()}
    return lambda: session.run(None, known)


def threads_here() -> int:
    """Return on how many processors this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
