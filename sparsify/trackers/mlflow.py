"""MLflow."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparsify.errors import UsageError
from sparsify.trackers import Tracker, numbers

__all__ = ["Mlflow"]


@dataclass
class Mlflow(Tracker):
    """Log metrics to an MLflow server or folder, as one run.

    Attributes:
        uri: of the server or folder; by default what MLflow's environment says.
        experiment: its name.
    """

    uri: str = ""
    experiment: str = "sparsify"

    def __post_init__(self) -> None:
        try:
            self._mlflow: Any = importlib.import_module("mlflow")
        except ImportError as error:
            raise UsageError("--track mlflow needs it: pip install mlflow.") from error
        if self.uri:
            self._mlflow.set_tracking_uri(self.uri)
        self._mlflow.set_experiment(self.experiment)
        self._mlflow.start_run()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Log the numbers of an event."""
        if event.get("event") == "started":
            self._mlflow.log_params({key: value for key, value in event.items() if key not in ("event", "time")})
        for name, value, step in numbers(event):
            self._mlflow.log_metric(name, value, step=step)

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()
