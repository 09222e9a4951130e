"""Outputs that appear together, once everything about them is known to be right."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sparsify.errors import InputError, SparsifyError
from sparsify.export.storage import move_model

__all__ = ["Staging", "staging"]


class Staging:
    """Where outputs are written, and what puts them in their places.

    Args:
        places: for each target where it is written: elsewhere under the same name, or there.
    """

    def __init__(self, places: dict[Path, Path]) -> None:
        self._places = places

    def place(self, target: Path) -> Path:
        """Return where a target is until it is committed."""
        return self._places[target]

    @contextmanager
    def writing(self, target: Path) -> Iterator[Path]:
        """Yield where to write a target; errors name the target."""
        place = self._places[target]
        try:
            yield place
        except SparsifyError as error:
            if str(place) not in str(error) or place == target:
                raise
            raise type(error)(str(error).replace(str(place), str(target))) from error

    def commit(self) -> None:
        """Put what was written in its place.

        Raises:
            InputError: a target cannot be written.
        """
        for target, place in self._places.items():
            if place == target or not place.exists():
                continue
            try:
                _move(place, target)
            except OSError as error:
                raise InputError(f"{target} cannot be written: {error.strerror or error}.") from error


@contextmanager
def staging(targets: Sequence[Path], *, staged: bool) -> Iterator[Staging]:
    """Let targets be written elsewhere, beside their places; what is not committed is gone at the end.

    A file is then renamed and not copied, and keeps its name while it is written, which others may hold inside.

    Args:
        targets: files and folders that will be written.
        staged: or else they are written in their places at once.

    Raises:
        InputError: a folder cannot be made beside a target.
    """
    if not staged:
        yield Staging({target: target for target in targets})
        return
    with ExitStack() as stack:
        places, folders = {}, dict[Path, Path]()
        for target in targets:
            if target.parent not in folders:
                try:
                    made = stack.enter_context(tempfile.TemporaryDirectory(prefix=".sparsify-", dir=target.parent))
                except OSError as error:
                    raise InputError(f"{target} cannot be written: {error.strerror or error}.") from error
                folders[target.parent] = Path(made)
            places[target] = folders[target.parent] / target.name
        yield Staging(places)


def _move(place: Path, target: Path) -> None:
    """Rename a file or a folder; one that is there is replaced, a file with its permissions."""
    if not place.is_dir():
        if target.exists():
            place.chmod(target.stat().st_mode & 0o777)
        if target.suffix == ".onnx":
            move_model(place, target)
        else:
            place.replace(target)
        return
    old = place.with_name(f"{place.name}.old")
    if target.exists():
        target.rename(old)
    try:
        place.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
