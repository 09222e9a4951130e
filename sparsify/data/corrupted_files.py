"""Files of corrupted images: `.npy` with all severities of one corruption behind each other, and their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from sparsify.errors import InputError
from sparsify.spec import nearest

__all__ = ["CorruptedFile", "find", "labels_of", "read"]

CorruptedFile: TypeAlias = "tuple[np.ndarray[Any, np.dtype[np.uint8]], Tensor]"  # [N, H, W, 3] on the disk, labels [N]

_LABELS = "labels.npy"
_SEVERITIES = 5


def find(folder: Path, name: str) -> list[Path]:
    """Return the file of a corruption, or those of all, in the order of their names.

    Raises:
        InputError: the folder or the file is missing; the names that are there are offered.
    """
    if not folder.is_dir():
        raise InputError(f"The folder {folder} does not exist. Give the one that has {_LABELS}.")
    there = {path.stem: path for path in sorted(folder.glob("*.npy")) if path.name != _LABELS}
    if not there:
        raise InputError(f"{folder} has no files of images, such as gaussian_noise.npy.")
    if name == "all":
        return list(there.values())
    wanted = name.replace("-", "_").removesuffix(".npy")
    if wanted not in there:
        raise InputError(f"{folder} has no {wanted}.npy{nearest(wanted, there)}. There are: {', '.join(there)}.")
    return [there[wanted]]


def labels_of(folder: Path) -> Tensor:
    """Return the labels, int64 `[N]`.

    Raises:
        InputError: the file is missing, damaged or holds something else.
    """
    path = folder / _LABELS
    found = _mapped(path)
    if found.ndim != 1 or found.dtype.kind not in "iu" or not len(found):
        raise InputError(f"{path} should hold labels, whole numbers [N], and holds {found.dtype} {list(found.shape)}.")
    return torch.from_numpy(found.astype(np.int64))


def read(path: Path, labels: Tensor, severity: int) -> CorruptedFile:
    """Return the images of a severity (0: of all) and their labels; images stay on the disk until they are looked at.

    Args:
        path: of the file, images uint8 `[N, H, W, 3]`: a fifth for each severity, the mild ones first.
        labels: of all of them.
        severity: from 0 to 5.

    Raises:
        InputError: the file is missing, damaged or holds something else.
    """
    images = _mapped(path)
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[3] != 3:
        raise InputError(f"{path} should hold bytes [N, H, W, 3], and holds {images.dtype} {list(images.shape)}.")
    if len(images) != len(labels) or len(images) % _SEVERITIES:
        raise InputError(
            f"{path} has {len(images)} images and {_LABELS} {len(labels)} labels; there should be as many of both, a "
            "fifth for each severity. Get a complete copy."
        )
    each = len(images) // _SEVERITIES
    part = slice(None) if severity == 0 else slice((severity - 1) * each, severity * each)
    return images[part], labels[part]


def _mapped(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        what = "does not exist" if not path.exists() else f"cannot be read as an array: {error}"
        raise InputError(f"{path} {what}. Get a complete copy.") from error
