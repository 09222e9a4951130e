"""The console: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape

__all__ = ["err", "out", "print_json", "progress"]

out = Console()
err = Console(stderr=True)


def print_json(value: Any) -> None:
    """Print a value as JSON, and nothing else."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Show on stderr what is being done: a line that moves in a terminal, nothing elsewhere."""
    if not err.is_terminal:
        yield lambda text: None
        return
    with err.status("starting") as status:
        yield lambda text: status.update(escape(text))
