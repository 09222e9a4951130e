"""Zip archives that torch wrote: their directory is checked before anything in them is read.

Two readers must find the same in it: Python's, which says where entries lie and whether they are compressed, and
torch's, which reads them. Where two readers disagree, what was checked need not be what is loaded.
"""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import IO, Any

from sparsify.errors import InputError
from sparsify.loading.safe_pickle import UNREADABLE, brief

__all__ = ["Archive", "entries", "open_archive"]

_MOST_ENTRIES = 100_000
_MOST_TEXT = 256 * 2**20  # bytes of JSON or pickle: many times what the largest models need


@dataclasses.dataclass(frozen=True)
class Archive:
    """An archive whose directory has been checked: names without their common folder, and sizes in bytes."""

    path: Path
    file: IO[bytes]
    reader: Any
    sizes: dict[str, int]

    def read(self, name: str) -> bytes:
        """Return the bytes of a text or pickle entry.

        Raises:
            InputError: there is no such entry, it is too large to be text, or its bytes are damaged.
        """
        if self.sizes.get(name, _MOST_TEXT + 1) > _MOST_TEXT:
            what = "is too large" if name in self.sizes else "is missing"
            raise InputError(f"{self.path} is damaged: its entry {name} {what}. Save the file again.")
        try:
            return bytes(self.reader.get_record(name))
        except UNREADABLE as error:
            raise InputError(f"{self.path} is damaged: its entry {name} cannot be read ({brief(error)}).") from error


def entries(file: IO[bytes], path: Path) -> list[zipfile.ZipInfo]:
    """Return the directory of a zip file that could have been written by torch: nothing overlaps, no name comes twice.

    Raises:
        InputError: the directory is damaged, or entries claim more bytes than the file has.
    """
    file.seek(0)
    try:
        infos = zipfile.ZipFile(file).infolist()
    except (*UNREADABLE, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is a damaged or incomplete zip archive: {brief(error)}. Copy it again.") from error
    names = [info.filename.casefold() for info in infos]
    if len(infos) > _MOST_ENTRIES or len(set(names)) < len(names):
        raise InputError(f"{path} has {len(infos)} zip entries, too many or of the same name; torch did not write it.")
    if strange := next((info for info in infos if info.orig_filename != info.filename), None):
        raise InputError(f"{path} has the zip entry {strange.orig_filename!r:.100}, a name that torch does not write.")
    end = file.seek(0, 2)
    for info in sorted(infos, key=lambda info: info.header_offset, reverse=True):
        if info.header_offset + 30 + len(info.filename) + info.compress_size > end:
            raise InputError(f"{path} is damaged: its entry {info.filename!r:.100} overlaps what follows it.")
        end = info.header_offset
    if end > 0:  # the directory of an archive inside, such as that of example inputs, when the own one is cut off
        raise InputError(f"{path} is a damaged or incomplete zip archive: it starts with unknown bytes. Copy it again.")
    return infos


def _check_sums(file: IO[bytes], path: Path) -> None:
    """See that every entry has the checksum that the directory says; torch's reader does not look at them.

    Raises:
        InputError: one has another.
    """
    file.seek(0)
    try:
        wrong = zipfile.ZipFile(file).testzip()
    except (*UNREADABLE, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged: {brief(error)}. Copy it again.") from error
    if wrong is not None:
        raise InputError(
            f"{path} is damaged: its entry {wrong!r:.100} does not have the checksum that it was written with. Copy it "
            "again. (Files have none at all after torch.serialization.set_crc32_options(False): save it again with "
            "True.)"
        )


def open_archive(file: IO[bytes], path: Path) -> Archive:
    """Open a checked zip file with torch's reader, and see that both readers find the same in it.

    Raises:
        InputError: entries are compressed, the readers disagree, or torch's reader cannot open the file.
    """
    import torch

    infos = entries(file, path)
    if packed := next((info for info in infos if info.compress_type or info.compress_size != info.file_size), None):
        raise InputError(
            f"{path} has the compressed entry {packed.filename!r:.100}; torch stores tensors as they are. "
            "If the archive was packed again with a zip tool, unpack it and zip it with compression level 0."
        )
    folder = infos[0].filename.partition("/")[0] + "/" if infos else ""
    sizes = {info.filename.removeprefix(folder): info.file_size for info in infos}
    file.seek(0)
    try:
        reader = torch._C.PyTorchFileReader(file)
        found = sorted(reader.get_all_records())
    except UNREADABLE as error:
        raise InputError(f"{path} is not an archive that torch can read: {brief(error)}.") from error
    if found != sorted(sizes):
        raise InputError(f"{path} is damaged: two zip readers find different entries in it. Save the file again.")
    _check_sums(file, path)
    return Archive(path, file, reader, sizes)
