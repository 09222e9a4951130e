"""Trackers: where the numbers of a retraining are shown besides its own log, one per file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from sparsify import registry

__all__ = ["Tracker", "numbers", "tracking"]

_STEPS = {"step": "step", "measured": "step", "exchanged": "step", "round": "round", "control": "round"}
_LEFT_OUT = ("event", "time", "training", "step", "steps", "round")


class Tracker(ABC):
    """Base of all trackers; `sparsify.retrain(..., listeners=[tracker])` tells it every event of the log."""

    @abstractmethod
    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take note of an event."""

    def close(self) -> None:  # noqa: B027 -- most have nothing to close
        """Write what is still in memory."""


@contextmanager
def tracking(specs: Sequence[str]) -> Iterator[list[Tracker]]:
    """Make trackers from specs such as `tensorboard:folder=runs`; they are closed at the end, whatever happens.

    Raises:
        UsageError: there is no such tracker, or its package is not installed.
    """
    with ExitStack() as stack:
        made: list[Tracker] = []
        for spec in specs:
            tracker, _ = registry.make("sparsify.trackers", spec)
            stack.callback(tracker.close)
            made.append(tracker)
        yield made


def numbers(event: Mapping[str, Any]) -> Iterator[tuple[str, float, int]]:
    """Yield the numbers of an event, each with a name such as `round-1/loss` and its step or round."""
    place = _STEPS.get(str(event.get("event")))
    if place is None:
        return
    kind = event.get("training") or event.get("control") or "rounds"
    for name, value in event.items():
        if name not in _LEFT_OUT and isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{kind}/{name}", float(value), int(event[place])
        elif name == "layers" and isinstance(value, Mapping):
            yield from ((f"{kind}/density/{layer}", float(share), int(event[place])) for layer, share in value.items())
