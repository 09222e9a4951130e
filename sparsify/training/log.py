"""The log of a retraining: its events as lines of JSON, written while they happen."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparsify.errors import InputError, UsageError

__all__ = ["Log", "log_of_a_run"]

_ENDING = ".log.jsonl"


class Log:
    """A file of events that only one process writes at a time.

    Args:
        path: of the file.
        keep: go on behind what it holds, instead of anew.

    Raises:
        InputError: it cannot be opened.
        UsageError: another process writes it.
    """

    def __init__(self, path: Path, *, keep: bool) -> None:
        self.path = path
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(f"The log {path} cannot be written: {error.strerror or error}.") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise UsageError(f"Another process writes {path}. Wait for it, or name another place.") from None
        if not keep:
            self._file.truncate(0)

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Write an event.

        Raises:
            InputError: it cannot be written, as when the disk is full.
        """
        try:
            self._file.write(json.dumps(event) + "\n")
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"The log {self.path} cannot be written: {error.strerror or error}. Make room and run the same command "
                "again."
            ) from error

    def close(self) -> None:
        """Let others write it."""
        self._file.close()


@contextmanager
def log_of_a_run(path: Path) -> Iterator[Log]:
    """Write `x.running.log.jsonl`, which becomes `x.log.jsonl` when the block ends well.

    After a failure it stays where it is, and so does the log of an earlier run.

    Raises:
        InputError: it cannot be written.
        UsageError: another process writes it.
    """
    log = Log(path.with_name(f"{path.name.removesuffix(_ENDING)}.running{_ENDING}"), keep=False)
    try:
        yield log
        try:
            log.path.replace(path)
        except OSError as error:
            raise InputError(
                f"The log {log.path} cannot be renamed to {path.name}: {error.strerror or error}."
            ) from error
    finally:
        log.close()
