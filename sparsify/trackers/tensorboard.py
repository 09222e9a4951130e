"""TensorBoard."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparsify.errors import UsageError
from sparsify.trackers import Tracker, numbers

__all__ = ["Tensorboard"]


@dataclass
class Tensorboard(Tracker):
    """Write event files that `tensorboard --logdir FOLDER` shows.

    Attributes:
        folder: where they are written.
    """

    folder: str = "runs"

    def __post_init__(self) -> None:
        try:
            writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        except ImportError as error:
            raise UsageError("--track tensorboard needs it: pip install tensorboard.") from error
        self._writer: Any = writer(self.folder)

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Add the numbers of an event."""
        if event.get("event") == "started":
            self._writer.add_text("method", str(event.get("method", "")))
        for name, value, step in numbers(event):
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write everything."""
        self._writer.close()
