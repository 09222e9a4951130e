"""Histories: what the logs of retrainings tell, gathered for plots."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparsify.errors import InputError

__all__ = ["History", "read_history"]


@dataclass(frozen=True)
class History:
    """What one retraining did.

    Attributes:
        name: of the folder, or of the log.
        method: its spec.
        steps: by training, the events of its steps, in order: `step`, `loss`, `density`, ...
        measured: by training, what was measured on the way: `step`, `score`, `validation_loss`.
        exchanged: by training, the updates of its masks: `step`, `dropped`, `grown`, `itop`, `layers`, ...
        rounds: the rounds of a lottery.
        controls: its controls.
        masks: of a search for an early ticket, in order: `step`, and `largest` of the distances in the window.
        dimensions: that were tried: `dimension`, `score`.
        goal: of these: the `score` that is enough, that of all parameters and that at the start.
    """

    name: str
    method: str
    steps: Mapping[str, Sequence[dict[str, Any]]] = field(default_factory=dict)
    measured: Mapping[str, Sequence[dict[str, Any]]] = field(default_factory=dict)
    exchanged: Mapping[str, Sequence[dict[str, Any]]] = field(default_factory=dict)
    rounds: Sequence[dict[str, Any]] = ()
    controls: Sequence[dict[str, Any]] = ()
    masks: Sequence[dict[str, Any]] = ()
    dimensions: Sequence[dict[str, Any]] = ()
    goal: Mapping[str, Any] = field(default_factory=dict)


def read_history(place: str | Path) -> History:
    """Read a log, or that of a work folder; of what was done again after an interruption, the last time counts.

    Raises:
        InputError: there is no log, or it holds something else.
    """
    place = Path(place)
    path = place / "log.jsonl" if place.is_dir() else place
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines[:-1]]
        events += _whole(lines[-1:])
        started = next(event for event in events if event["event"] == "started")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Name a log, or what --work made.") from error
    except (ValueError, StopIteration, KeyError, TypeError):
        raise InputError(f"{path} is no log of a retraining.") from None
    found: dict[str, dict[str, dict[int, dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
    rounds, controls = dict[int, dict[str, Any]](), dict[tuple[str, int], dict[str, Any]]()
    masks, dimensions, goal = dict[int, dict[str, Any]](), dict[int, dict[str, Any]](), dict[str, Any]()
    for event in events:
        if event["event"] in ("step", "measured", "exchanged"):
            found[event["event"]][event["training"]][event["step"]] = event
        elif event["event"] == "round":
            rounds[event["round"]] = event
        elif event["event"] == "control":
            controls[event["control"], event["round"]] = event
        elif event["event"] == "mask":
            masks[event["step"]] = event
        elif event["event"] == "tried":
            dimensions[event["dimension"]] = event
        elif event["event"] == "goal":
            goal = event
    steps, measured, exchanged = (
        {name: [at[step] for step in sorted(at)] for name, at in found[kind].items()}
        for kind in ("step", "measured", "exchanged")
    )
    return History(
        place.name.removesuffix(".log.jsonl"), str(started.get("method", "")), steps, measured, exchanged,
        [rounds[number] for number in sorted(rounds)], list(controls.values()),
        [masks[step] for step in sorted(masks)], [dimensions[size] for size in sorted(dimensions)], goal,
    )  # fmt: skip


def _whole(lines: Sequence[str]) -> list[dict[str, Any]]:
    """Return the last line, unless the process was killed while it wrote it."""
    try:
        return [json.loads(line) for line in lines]
    except ValueError:
        return []
