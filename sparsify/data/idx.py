"""IDX: the format of MNIST's files: a magic number, the sizes, and bytes in row-major order."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparsify.errors import InputError, UsageError

__all__ = ["find", "read", "read_labelled"]

_SPLITS = {"train": "train", "validation": "t10k|test"}
_KINDS = {"images": 3, "labels": 1}  # how many sizes the header has
_GZIP = b"\x1f\x8b"
_BYTES = 8  # the code of the only type that image sets have: unsigned bytes


def find(folder: Path, split: str, prefix: str | None = None) -> tuple[Path, Path]:
    """Return the files of a split's images and labels, plain or compressed.

    Args:
        folder: where they lie.
        split: train, or validation: then the files are called t10k or test.
        prefix: what the names start with, when the folder has several sets, such as `emnist-digits`.

    Raises:
        InputError: the folder or a file is missing.
        UsageError: there are files of several sets.
    """
    if not folder.is_dir():
        raise InputError(f"The folder {folder} does not exist. Give the one that has train-images-idx3-ubyte.")
    found = [_find(folder, split, kind, prefix) for kind in _KINDS]
    return found[0], found[1]


def _find(folder: Path, split: str, kind: str, prefix: str | None) -> Path:
    name = re.compile(rf"(?:(.+)-)?(?:{_SPLITS[split]})-{kind}[-.]idx{_KINDS[kind]}-ubyte(?:\.gz)?")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):  # the plain file comes before the compressed one, and wins
        match = name.fullmatch(path.name)
        if match and path.is_file() and prefix in (None, match[1] or ""):
            found.setdefault(match[1] or "", path)
    if len(found) > 1:
        raise UsageError(f"{folder} has several sets of images: say which with prefix= one of {', '.join(found)}.")
    if not found:
        first = _SPLITS[split].partition("|")[0]
        wanted = f"{prefix}-{first}" if prefix else first
        raise InputError(
            f"{folder} has no {kind} to {'train' if split == 'train' else 'validate'} with: the file "
            f"{wanted}-{kind}-idx{_KINDS[kind]}-ubyte is missing (it may end in .gz)."
        )
    return next(iter(found.values()))


def read_labelled(images: Path, labels: Path) -> tuple[Tensor, Tensor]:
    """Return the images uint8 `[N, H, W]` and labels int64 `[N]` of two files.

    Raises:
        InputError: a file cannot be read, or they do not belong together; the message names the file.
    """
    pixels, classes = read(images, 3), read(labels, 1)
    if len(pixels) != len(classes):
        raise InputError(
            f"{images} has {len(pixels)} images, but {labels} has {len(classes)} labels: they do not belong together."
        )
    return pixels, classes.long()


def read(path: Path, dims: int) -> Tensor:
    """Return the unsigned bytes of an IDX file, which has a given number of dimensions.

    Raises:
        InputError: the file cannot be read, has another magic number, is empty or has not the length that it says.
    """
    content = _content(path)
    expected = 0x00000800 + dims
    magic = int.from_bytes(content[:4], "big")
    if len(content) < 4 or magic != expected:
        raise InputError(
            f"{path} is no IDX file of unsigned bytes with {dims} dimensions: its magic number is 0x{magic:08x}, "
            f"not 0x{expected:08x}.{_guess(content)}"
        )
    start = 4 + 4 * dims
    if len(content) < start:
        raise InputError(f"{path} ends within its header. Get a complete copy.")
    shape = struct.unpack(f">{dims}I", content[4:start])
    wanted, there = math.prod(shape), len(content) - start
    if wanted != there:
        raise InputError(
            f"{path} says that it has {' x '.join(map(str, shape))} bytes, which are {wanted}, and has {there}. "
            "Get a complete copy."
        )
    if wanted == 0:
        raise InputError(f"{path} is empty: its sizes are {' x '.join(map(str, shape))}.")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        # The content decides, not the name: some programs unpack a download and leave the name.
        return gzip.decompress(content) if content[:2] == _GZIP else content
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}. Get a complete copy.") from error


def _guess(content: bytes) -> str:
    """Say what a file with a wrong magic number may be."""
    if content[:2] != b"\0\0" or len(content) < 4:
        return ""
    kind = f"{content[3]} dimension{'s' * (content[3] != 1)}"
    return f" It has {kind}." if content[2] == _BYTES else " It holds numbers of another type."
