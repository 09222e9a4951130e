"""Checkpoints: states of a run on disk, each whole or not there, the last two kept."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from sparsify.atomic import writing
from sparsify.errors import InputError, first_line
from sparsify.parallel.ranks import together
from sparsify.parallel.shards import digests, merged, read_shards, taken_apart, write_shards
from sparsify.parallel.strategy import Parallel

__all__ = ["Checkpoints"]

_MAGIC = b"sparsify checkpoint 2\n"
_DIGEST = hashlib.sha256().digest_size
_SHARDS = ".shards"
_BLOCK = 1 << 22


class Checkpoints:
    """The checkpoints of one training in a folder: `step-00000500.ckpt`, ...

    A file begins with the digest of what follows, so that a damaged one is recognised; then the one before it is
    used. Nothing in it can run code. Sharded tensors lie beside it, in a folder `step-00000500.shards`, whose digests
    the file has; any number of processes reads them again.

    Args:
        folder: where they lie; it is made for the first of them.
        seconds: how long a run goes on before it writes the next one.
        warn: told which file was damaged.
        parallel: the processes of the run. The first one writes files; all write and read shards.
    """

    def __init__(
        self,
        folder: Path,
        seconds: float = 60.0,
        warn: Callable[[str], None] = lambda text: None,
        parallel: Parallel | None = None,
    ) -> None:
        self._folder, self._seconds, self._warn = folder, seconds, warn
        self._parallel = parallel or Parallel()
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
            LostRankError: another rank cannot.
        """
        path, led = self._folder / f"step-{step:08d}.ckpt", self._parallel.ranks.led
        rest, tensors = taken_apart(dict(state))
        if tensors:
            led(lambda: self._make_room(path))
            with self._blamed(path), together():
                write_shards(path.with_suffix(_SHARDS), tensors)
            rest[_SHARDS] = self._digests(path)
        led(lambda: self._write(path, rest))
        self._written = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Return the newest whole state, or None.

        Raises:
            InputError: another process has read it, and this one cannot.
        """
        read: dict[Path, dict[str, Any]] = {}  # by the first process, which looks at all; the others read the right one
        path = self._parallel.ranks.led(lambda: self._newest_whole(read))
        if path is None:
            return None
        found = read.get(path) or self._read(path)
        if found is None:
            raise InputError(f"This process cannot read {path}, which the first one has read: all must see the folder.")
        if found.pop(_SHARDS, None):
            found = merged(found, read_shards(path.with_suffix(_SHARDS), self._parallel.empty))
        return found

    def clear(self) -> None:
        """Remove all of them: the training is done, and its result is kept elsewhere."""
        self._parallel.ranks.led(lambda: self._remove(self._files()))
        with contextlib.suppress(OSError):  # something else lies there, or another rank was faster
            self._folder.rmdir()

    def _make_room(self, path: Path) -> None:
        with self._blamed(path):
            shutil.rmtree(path.with_suffix(_SHARDS), ignore_errors=True)  # of a run that ended while it wrote them
            path.with_suffix(_SHARDS).mkdir(parents=True)

    def _digests(self, path: Path) -> dict[str, str]:
        """Return the digests of all shards; every rank reads some of them."""
        ranks = self._parallel.ranks
        with self._blamed(path):
            mine = digests(path.with_suffix(_SHARDS), slice(ranks.rank, None, ranks.size))
        return {name: found for some in ranks.gathered(mine) for name, found in some.items()}

    def _write(self, path: Path, rest: dict[str, Any]) -> None:
        with self._blamed(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            with writing(path) as temporary, temporary.open("wb") as file:
                file.write(_MAGIC + bytes(_DIGEST))
                payload = _Behind(file)
                torch.save(rest, cast(IO[bytes], payload))
                file.seek(len(_MAGIC))
                file.write(payload.digest)
        self._remove(self._files()[:-2])

    def _remove(self, files: Sequence[Path]) -> None:
        for path in files:
            path.unlink(missing_ok=True)
            shutil.rmtree(path.with_suffix(_SHARDS), ignore_errors=True)

    @contextlib.contextmanager
    def _blamed(self, path: Path) -> Iterator[None]:
        """Say of an error that a checkpoint cannot be written."""
        try:
            yield
        except (OSError, InputError) as error:
            last = self.newest
            rest = f"The last good one is {last.name}" if last else "There is none before it"
            reason = getattr(error, "strerror", None) or first_line(error).removeprefix(f"{path} cannot be written: ")
            raise InputError(
                f"The checkpoint {path} cannot be written: {reason}. {rest}; make room and run the same command again."
            ) from error

    def _newest_whole(self, read: dict[Path, dict[str, Any]]) -> Path | None:
        """Return the newest checkpoint that is not damaged, and put what it holds into `read`."""
        for path in reversed(self._files()):
            found = self._read(path)
            if found is not None and self._has_shards(path, found):
                read[path] = found
                return path
            self._warn(f"{path} is damaged; what is before it is used.")
        return None

    def _read(self, path: Path) -> dict[str, Any] | None:
        """Return what a file holds, or None if it is damaged."""
        with path.open("rb") as file:
            head, found = file.read(len(_MAGIC) + _DIGEST), hashlib.sha256()
            payload = _Behind(file)
            while block := file.read(_BLOCK):
                found.update(block)
            if head != _MAGIC + found.digest():
                return None
            payload.seek(0)
            state: dict[str, Any] = torch.load(cast(IO[bytes], payload), weights_only=True)
        return state

    def _has_shards(self, path: Path, found: Mapping[str, Any]) -> bool:
        try:
            return _SHARDS not in found or found[_SHARDS] == digests(path.with_suffix(_SHARDS))
        except OSError:
            return False

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.ckpt"))


class _Behind:
    """What of a file lies behind the place where it is, as a file for torch, with the digest of what is written.

    So no second copy of a state is in memory.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._begin, self._written = file, file.tell(), hashlib.sha256()
        self.read, self.readline, self.flush = file.read, file.readline, file.flush

    @property
    def digest(self) -> bytes:
        return self._written.digest()

    def write(self, data: bytes) -> int:
        self._written.update(data)
        return self._file.write(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset if whence else offset + self._begin, whence) - self._begin

    def tell(self) -> int:
        return self._file.tell() - self._begin
