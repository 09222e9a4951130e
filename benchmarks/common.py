"""What the benchmarks share: a clock, medians, text tables and results as JSON. Run on its own it does nothing."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
QUICK = "--quick" in sys.argv  # to try a script out: fewer repeats, and nothing is written


class Clock:
    """Seconds spent in named stages: as the wall clock saw them, and as processor time of all threads."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to the stage."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - wall
            self.cpu[name] = self.cpu.get(name, 0.0) + time.process_time() - cpu


def medians(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of every key over the samples."""
    return {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}


def save(script: str, claim: str, holds: bool, reading: str, results: Mapping[str, Any]) -> None:
    """Write `results/<script>.json` with the environment, and print the verdict."""
    from sparsify.atomic import writing
    from sparsify.report.record import environment

    name = Path(script).stem
    body = {
        "claim": claim,
        "holds": holds,
        "reading": reading,
        "results": _rounded(results),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "environment": environment(),
    }
    if not QUICK:
        RESULTS.mkdir(exist_ok=True)
        with writing(RESULTS / f"{name}.json") as path:
            path.write_text(json.dumps(body, indent=2) + "\n", "utf-8")
    print(f"{name}: {claim}\n{name}: {'holds' if holds else 'DOES NOT HOLD'}. {reading}\n")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows under a header, numbers to the right."""
    cells = [list(header), *([f"{c:.3f}" if isinstance(c, float) else str(c) for c in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        first, *others = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        numbers = (cell.strip().rjust(len(cell)) for cell in others)
        print("  ".join([first, *numbers]), flush=True)
    print()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, (list, tuple)) else value
