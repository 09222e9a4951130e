"""Checkpoints: states of a run on disk, each whole or not there, the last two kept."""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from sparsify.atomic import writing
from sparsify.errors import InputError, first_line

__all__ = ["Checkpoints"]

_MAGIC = b"sparsify checkpoint 1\n"
_DIGEST = hashlib.sha256().digest_size


class Checkpoints:
    """The checkpoints of one training in a folder: `step-00000500.ckpt`, ...

    A file begins with the digest of what follows, so that a damaged one is recognised; then the one before it is
    used. Nothing in it can run code.

    Args:
        folder: where they lie; it is made for the first of them.
        seconds: how long a run goes on before it writes the next one.
        warn: told which file was damaged.
    """

    def __init__(self, folder: Path, seconds: float = 60.0, warn: Callable[[str], None] = lambda text: None) -> None:
        self._folder, self._seconds, self._warn = folder, seconds, warn
        self._written = time.monotonic()

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self._folder

    @property
    def newest(self) -> Path | None:
        """The file of the last of them."""
        return next(reversed(self._files()), None)

    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() - self._written >= self._seconds

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Write a state; of the older ones the last stays.

        Raises:
            InputError: it cannot be written, as on a full disk; the last one is still there.
        """
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        payload = buffer.getvalue()
        path = self._folder / f"step-{step:08d}.ckpt"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with writing(path) as temporary, temporary.open("wb") as file:
                file.write(_MAGIC + hashlib.sha256(payload).digest() + payload)
        except (OSError, InputError) as error:
            last = self.newest
            rest = f"The last good one is {last.name}" if last else "There is none before it"
            reason = getattr(error, "strerror", None) or first_line(error).removeprefix(f"{path} cannot be written: ")
            raise InputError(
                f"The checkpoint {path} cannot be written: {reason}. {rest}; make room and run the same command again."
            ) from error
        self._written = time.monotonic()
        for old in self._files()[:-2]:
            old.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """Return the newest whole state, or None."""
        for path in reversed(self._files()):
            data = path.read_bytes()
            digest, payload = data[len(_MAGIC) : len(_MAGIC) + _DIGEST], data[len(_MAGIC) + _DIGEST :]
            if data.startswith(_MAGIC) and hashlib.sha256(payload).digest() == digest:
                found: dict[str, Any] = torch.load(io.BytesIO(payload), weights_only=True)
                return found
            self._warn(f"{path} is damaged; what is before it is used.")
        return None

    def clear(self) -> None:
        """Remove all of them: the training is done, and its result is kept elsewhere."""
        for path in self._files():
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else lies there
            self._folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.ckpt"))
