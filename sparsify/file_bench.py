"""Models measured side by side, at several batch sizes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sparsify.contenders import Contender
from sparsify.inputs import agreed_batches
from sparsify.latency import SESSIONS, Latency, Speed, in_turns, threads_here

__all__ = ["Measured", "Table", "compare"]


@dataclass(frozen=True)
class Measured:
    """A model at one batch size.

    Attributes:
        name: of the file.
        runtime: what ran it.
        bytes: its size.
        latency: its times.
        speed: against the first one; None for that itself.
        masked: whether it has masks, which every run applies.
    """

    name: str
    runtime: str
    bytes: int
    latency: Latency
    speed: Speed | None
    masked: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {
            "file": self.name,
            "runtime": self.runtime,
            "bytes": self.bytes,
            "latency_ms": self.latency.as_dict(),
            "speed": None if self.speed is None else self.speed.as_dict(),
            "masked": self.masked,
        }


@dataclass(frozen=True)
class Table:
    """All models at one batch size."""

    batch: int
    threads: int
    rows: Sequence[Measured]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {"batch": self.batch, "threads": self.threads, "files": [row.as_dict() for row in self.rows]}


def compare(
    models: Sequence[Contender],
    batches: Sequence[int] | None = None,
    *,
    threads: int | None = None,
    seconds: float = 10.0,
    stage: Callable[[str], None] = lambda text: None,
) -> list[Table]:
    """Time models in turns.

    Args:
        models: the first is what the others are compared with.
        batches: how many examples a run has; what the models are fixed to, or 1, if not given.
        threads: how many each may use; all that this process may run on if not given.
        seconds: how long to measure for each batch size.
        stage: told what begins.

    Raises:
        UsageError: a model is fixed to another batch size than is asked for, or than another one is.
    """
    count = threads or threads_here()
    tables = []
    for batch in agreed_batches({model.name: model.fixed for model in models}, batches, "--batches"):
        stage(f"measuring batch {batch}")
        starts = [model.starting(batch, count) for model in models]
        times = in_turns(starts, seconds=seconds, sessions=SESSIONS)
        rows = [
            Measured(
                model.name,
                model.runtime,
                model.bytes,
                Latency.of(list(itertools.chain.from_iterable(own)), count, batch),
                None if place == 0 else Speed.of(times[0], own),
                model.masked,
            )
            for place, (model, own) in enumerate(zip(models, times, strict=True))
        ]
        tables.append(Table(batch, count, rows))
    return tables
