"""CIFAR: the files of CIFAR-10 and CIFAR-100, pickled (the "python version") and plain (the "binary version")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

from sparsify.data.augmentation import crop_and_flip
from sparsify.data.labelled import LabelledBatch
from sparsify.data.pixels import Pixels
from sparsify.errors import InputError
from sparsify.loading.safe_array import load_arrays
from sparsify.task import Split

__all__ = ["Cifar", "Layout", "find", "read"]

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """How the files of one of the two sets are called and laid out.

    Attributes:
        classes: how many there are.
        key: of the labels in a pickled file.
        label_bytes: how many come before every image of a plain file; the last of them is read.
        folders: what the archives unpack to.
        pickled: the names of the pickled files of a split.
        plain: the names of the plain files of a split.
    """

    classes: int
    key: bytes
    label_bytes: int
    folders: tuple[str, ...]
    pickled: Mapping[Split, tuple[str, ...]]
    plain: Mapping[Split, tuple[str, ...]]


@dataclass(frozen=True)
class Cifar(Pixels):
    """Classify the images of one of the two sets; a subclass gives `name` and `layout`.

    Attributes:
        folder: what the archive (python or binary version) unpacked to, or the folder around it.
        batch_size: images in a batch.
        augment: whether training images are shifted by up to 4 pixels, with black coming in, and mirrored at random.
    """

    layout: ClassVar[Layout]
    folder: str
    batch_size: int = 128
    augment: bool = True

    def load(self) -> Mapping[Split, LabelledBatch]:
        """Read both splits."""
        files = find(Path(self.folder).expanduser(), self.layout)
        return {split: _joined([read(path, self.layout) for path in paths]) for split, paths in files.items()}

    def augmented(self, images: Tensor, generator: Generator) -> Tensor:
        """Shift images by up to 4 pixels and mirror every other one."""
        return crop_and_flip(images, generator) if self.augment else images


def find(folder: Path, layout: Layout) -> Mapping[Split, list[Path]]:
    """Return the files of both splits, which lie in a folder or in what an archive unpacked to inside.

    Raises:
        InputError: the folder or a file is missing.
    """
    if not folder.is_dir():
        raise InputError(f"The folder {folder} does not exist. Give the one that has {layout.folders[0]}, or this one.")
    for place in (folder, *(folder / name for name in layout.folders)):
        for names in (layout.pickled, layout.plain):
            files: dict[Split, list[Path]] = {split: [place / name for name in names[split]] for split in names}
            there = [path for paths in files.values() for path in paths if path.is_file()]
            missing = [path for paths in files.values() for path in paths if path not in there]
            if there and missing:
                raise InputError(f"{place} has {there[0].name}, but {missing[0].name} is missing. Unpack it again.")
            if there:
                return files
    first, plain = (names["train"][0] for names in (layout.pickled, layout.plain))
    raise InputError(f"{folder} has neither {first} nor {plain}, and no {' or '.join(layout.folders)} that has.")


def read(path: Path, layout: Layout) -> LabelledBatch:
    """Return the images uint8 `[N, 3, 32, 32]` and labels int64 `[N]` of a file.

    Raises:
        InputError: the file cannot be read, is empty, or does not hold what it should; UntrustedError if it could run
            code.
    """
    images, labels = (_plain if path.suffix == ".bin" else _pickled)(path, layout)
    if not len(images):
        raise InputError(f"{path} holds no image.")
    if len(images) != len(labels):
        raise InputError(f"{path} has {len(images)} images and {len(labels)} labels. Get a complete copy.")
    if labels.min() < 0 or labels.max() >= layout.classes:
        wrong = next(int(label) for label in labels if not 0 <= label < layout.classes)
        raise InputError(f"{path} has the label {wrong}; there are {layout.classes} classes, from 0 on.")
    return torch.from_numpy(images.reshape(-1, *_SHAPE).copy()), torch.from_numpy(labels.astype(np.int64))


Arrays = tuple["np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", "np.ndarray[tuple[int, ...], np.dtype[np.int64]]"]


def _plain(path: Path, layout: Layout) -> Arrays:
    content = np.frombuffer(_content(path), np.uint8)
    record = layout.label_bytes + _PIXELS
    if len(content) % record:
        raise InputError(
            f"{path} has {len(content)} bytes, which is no multiple of {record}, the size of an image with its label. "
            "Get a complete copy."
        )
    records = content.reshape(-1, record)
    return records[:, layout.label_bytes :], records[:, layout.label_bytes - 1].astype(np.int64)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}.") from error


def _pickled(path: Path, layout: Layout) -> Arrays:
    found = load_arrays(path)
    entries = dict(_named(found)) if isinstance(found, dict) else {}
    images, labels = entries.get(b"data"), entries.get(layout.key)
    if images is None or labels is None:
        raise InputError(f"{path} has no dictionary with data and {layout.key.decode()}, as the files of CIFAR have.")
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != _PIXELS:
        raise InputError(f"{path} should hold its images as bytes [N, {_PIXELS}], and does not.")
    if not isinstance(labels, (list, np.ndarray)) or not all(isinstance(label, (int, np.integer)) for label in labels):
        raise InputError(f"{path} should hold its {layout.key.decode()} as whole numbers, and does not.")
    return images, np.asarray(labels, np.int64)


def _named(found: dict[object, object]) -> Iterator[tuple[bytes, object]]:
    """Yield entries with their keys as bytes; files that Python 3 wrote have them as text."""
    for key, value in found.items():
        yield key if isinstance(key, bytes) else str(key).encode(), value


def _joined(parts: list[LabelledBatch]) -> LabelledBatch:
    images, labels = zip(*parts, strict=True)
    return torch.cat(images), torch.cat(labels)
