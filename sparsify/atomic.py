"""Files appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparsify.errors import InputError

__all__ = ["check_new_folder", "check_writable", "writing", "writing_folder"]


@contextmanager
def writing(target: str | Path) -> Iterator[Path]:
    """Yield a path to write to; when the block ends well, what is there becomes `target` in one step.

    The work happens in the system's folder for temporary files, so that nothing is left beside the target when the
    process is killed. A file that was there before stays until the last moment.

    Raises:
        InputError: the target cannot be written.
    """
    target = Path(target)
    check_writable(target)
    with tempfile.TemporaryDirectory(prefix="sparsify-") as folder:
        source = Path(folder) / target.name
        yield source
        try:
            _place(source, target)
        except OSError as error:
            raise InputError(f"{target} cannot be written: {error.strerror or error}.") from error


@contextmanager
def writing_folder(target: str | Path) -> Iterator[Path]:
    """Yield a new folder to fill; when the block ends well it becomes `target` in one step.

    Raises:
        InputError: the target cannot be made, or there is something in it.
    """
    target = Path(target)
    check_new_folder(target)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as parent:
        source = Path(parent) / target.name
        source.mkdir()
        yield source
        for file in source.iterdir():  # some libraries let only the owner read what they write
            file.chmod(_mode(source / ".new"))
        try:
            source.rename(target)
        except OSError as error:
            raise InputError(f"{target} cannot be written: {error.strerror or error}.") from error


def check_new_folder(target: str | Path) -> None:
    """Check before the work starts that a folder can be made: none is there, or an empty one.

    Raises:
        InputError: it cannot.
    """
    target = Path(target)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"{target} is there already; name a folder that is new or empty.")
    if not target.parent.is_dir():
        raise InputError(f"{target} cannot be made: the folder {target.parent} does not exist.")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"{target} cannot be made: the folder {target.parent} is not writable.")


def _place(source: Path, target: Path) -> None:
    """Copy `source` beside `target` and rename the copy; while it grows the copy has no name where Linux allows it."""
    handle, name = _open_beside(target)
    try:
        with os.fdopen(handle, "wb") as out, source.open("rb") as data:
            shutil.copyfileobj(data, out)
            out.flush()
            os.fchmod(out.fileno(), _mode(target))
            os.fsync(out.fileno())
            if not name.exists():
                at = out.fileno()  # with a folder given, os.link follows the link; the path is absolute all the same
                os.link(f"/proc/self/fd/{at}", name, src_dir_fd=at, follow_symlinks=True)
        name.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            name.unlink()
        raise


def _open_beside(target: Path) -> tuple[int, Path]:
    name = target.parent / f".{target.name}.{secrets.token_hex(8)}"
    if hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").is_dir():
        with contextlib.suppress(OSError):  # not every file system can
            return os.open(target.parent, os.O_TMPFILE | os.O_WRONLY, 0o600), name
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    return handle, Path(temporary)


def check_writable(target: str | Path) -> None:
    """Check before the work starts that `target` can be written at its end.

    Raises:
        InputError: its folder does not exist or may not be written, or it is itself a folder.
    """
    target = Path(target)
    if target.is_dir():
        raise InputError(f"{target} is a folder; name a file.")
    if target.exists() and not target.is_file():
        raise InputError(f"{target} is not a regular file; name another.")
    if not target.parent.is_dir():
        raise InputError(f"{target} cannot be written: the folder {target.parent} does not exist.")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"{target} cannot be written: the folder {target.parent} is not writable.")


def _mode(target: Path) -> int:
    """Return the permissions of the file that is replaced, or those that the user's mask gives a new one."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
