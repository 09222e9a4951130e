"""Weights & Biases."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparsify.errors import UsageError
from sparsify.trackers import Tracker, numbers

__all__ = ["Wandb"]


@dataclass
class Wandb(Tracker):
    """Log metrics to Weights & Biases, as one run.

    Attributes:
        project: its name.
        name: of the run; by default one that the service makes up.
    """

    project: str = "sparsify"
    name: str = ""

    def __post_init__(self) -> None:
        try:
            wandb: Any = importlib.import_module("wandb")
        except ImportError as error:
            raise UsageError("--track wandb needs it: pip install wandb.") from error
        self._run: Any = wandb.init(project=self.project, name=self.name or None)

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Log the numbers of an event, with the step or round as a number beside them: runs have one count of steps."""
        if event.get("event") == "started":
            self._run.config.update({key: value for key, value in event.items() if key not in ("event", "time")})
        found = list(numbers(event))
        if found:
            place = f"{found[0][0].partition('/')[0]}/step"
            self._run.log({**{name: value for name, value, _ in found}, place: found[0][2]})

    def close(self) -> None:
        """End the run."""
        self._run.finish()
