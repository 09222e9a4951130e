"""Image files in class folders: which there are, what they show, and batches of them that are decoded when needed."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from sparsify.data.augmentation import resized_box
from sparsify.data.labelled import LabelledBatch
from sparsify.data.pixels import scaled_range
from sparsify.errors import InputError, UsageError
from sparsify.naming import first_names
from sparsify.task import Split

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["PIXEL_RANGE", "ImageBatches", "ImageFile", "find", "read"]

ImageFile = tuple[Path, int]  # where it is, and its label

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_VALIDATION = ("val", "validation")
_MARGIN = 256 / 224  # how much longer than the part that is shown the short side is made
_MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]  # of ImageNet's training images, red, green, blue
_DEVIATION = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
PIXEL_RANGE = scaled_range(_MEAN, _DEVIATION)  # what black and white become
_SPREAD = 1_000_003  # keeps what is drawn for the images of one epoch apart from that of the next


def find(folder: Path, share: float, seed: int) -> tuple[list[str], Mapping[Split, list[ImageFile]]]:
    """List the classes of a folder and the images of both splits, in the order of their names.

    Args:
        folder: has `train/CLASS/FILE` and `val/CLASS/FILE` (or `validation/`), or else `CLASS/FILE`, maybe in `train`.
        share: of every class that is held out where there is no such division.
        seed: of what is held out.

    Raises:
        InputError: the folder is missing, a class or split is empty, or the splits do not have the same classes.
    """
    if not folder.is_dir():
        raise InputError(f"The folder {folder} does not exist. Give one with a folder of images for every class.")
    held = [folder / name for name in _VALIDATION if (folder / name).is_dir()]
    root = folder / "train" if (folder / "train").is_dir() else folder
    if held and (len(held) > 1 or root == folder):
        names = f"{' and '.join(path.name for path in held)}"
        raise InputError(
            f"{folder} has {names}{'' if len(held) > 1 else ' but no train'}: which is which is not clear."
        )
    files = _by_class(root)
    if held:
        other = _by_class(held[0])
        if strange := sorted(set(other) - set(files)):
            raise InputError(f"{held[0]} has the classes {first_names(strange)}, which {root} does not have.")
        splits = files, other
    else:
        splits = _divided(files, share, seed)
        if not any(splits[1].values()):
            raise InputError(f"{root} has too few images for a share of {share:g} to validate with; give more of them.")
    labels = {name: label for label, name in enumerate(files)}
    train, validation = ([(path, labels[name]) for name in part for path in part[name]] for part in splits)
    return list(files), {"train": train, "validation": validation}


def _by_class(root: Path) -> dict[str, list[Path]]:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    files = {
        path.name: sorted(file for file in path.iterdir() if file.suffix.lower() in _ENDINGS and file.is_file())
        for path in folders
    }
    if empty := [name for name, paths in files.items() if not paths]:
        raise InputError(f"{root} has folders without images ({', '.join(_ENDINGS)}): {first_names(empty)}.")
    if not files:
        raise InputError(f"{root} has no folders with images, one for every class.")
    return files


def _divided(
    files: Mapping[str, list[Path]], share: float, seed: int
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Hold out a share of every class; a class with several images keeps one at least in both parts."""
    kept, held = {}, {}
    for name, paths in files.items():
        count = max(1, min(len(paths) - 1, round(share * len(paths)))) if len(paths) > 1 else 0
        # Text seeds a generator the same way everywhere; one for each class, so that a new class changes no other.
        chosen = set(random.Random(f"{seed} {name}").sample(paths, count))
        kept[name] = [path for path in paths if path not in chosen]
        held[name] = [path for path in paths if path in chosen]
    return kept, held


def read(path: Path, size: int, source: random.Random | None = None) -> Tensor:
    """Return an image as the model gets it, float32 `[3, size, size]`.

    Its colours are scaled by the mean and deviation of ImageNet: (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225).

    Args:
        path: of the file.
        size: in pixels.
        source: draws the part that is shown, and whether it is mirrored; without it, it is the middle.

    Raises:
        UsageError: Pillow is not installed.
        InputError: the file is no image, or a damaged one.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError("The task images needs Pillow: pip install sparsify-fx[data].") from error
    try:
        with Image.open(path) as file:
            shown = _shown(file.convert("RGB"), size, source)
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        raise InputError(f"The image {path} cannot be read: {error}. Replace it or take it out.") from error
    pixels = torch.from_numpy(np.array(shown)).permute(2, 0, 1).float() / 255
    return (pixels - _MEAN) / _DEVIATION


def _shown(image: Image, size: int, source: random.Random | None) -> Image:
    from PIL.Image import Resampling, Transpose

    if source is None:
        side = min(image.size) / _MARGIN
        left, upper = ((length - side) / 2 for length in image.size)
        return image.resize((size, size), Resampling.BILINEAR, (left, upper, left + side, upper + side))
    shown = image.resize((size, size), Resampling.BILINEAR, resized_box(*image.size, source))
    return shown.transpose(Transpose.FLIP_LEFT_RIGHT) if source.random() < 0.5 else shown


@dataclass(frozen=True)
class ImageBatches:
    """Image files in batches, float32 `[N, 3, size, size]` and labels int64 `[N]`; every iteration gives the same ones.

    Attributes:
        files: all of the split.
        pixels: width and height of an image.
        size: of a batch.
        seed: of the order and of the augmentation, or None for the order of the files.
        augment: whether images are changed at random; needs a seed.
        partial: whether the last, smaller batch is given too.
        workers: how many processes decode; they change nothing but the time it takes.
    """

    files: list[ImageFile]
    pixels: int
    size: int
    seed: int | None = None
    augment: bool = False
    partial: bool = True
    workers: int = 0

    def __len__(self) -> int:
        """Return the number of batches."""
        n = len(self.files)
        return -(-n // self.size) if self.partial else n // self.size

    def __iter__(self) -> Iterator[LabelledBatch]:
        """Go through the batches.

        Raises:
            InputError: an image cannot be read; the message names the file.
        """
        order = torch.arange(len(self.files))
        # The loader draws a seed for its workers, which nothing uses, from the global generator if it gets none.
        generator = Generator().manual_seed(self.seed or 0)
        if self.seed is not None:
            order = torch.randperm(len(self.files), generator=generator)
        loader: DataLoader[Any] = DataLoader(
            _Decoded(self),
            batch_size=self.size,
            sampler=order.tolist(),
            num_workers=self.workers,
            collate_fn=_collated,
            drop_last=not self.partial,
            generator=generator,
        )
        for batch in loader:
            if isinstance(batch, Exception):
                raise batch
            yield batch


class _Decoded(Dataset[Any]):
    """Images by their number; what is wrong with one is returned, because a worker that raises hides its message."""

    def __init__(self, batches: ImageBatches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | Exception:
        batches = self._batches
        path, label = batches.files[index]
        # What is drawn for an image depends on the epoch and the image, not on who decodes it or when.
        source = random.Random((batches.seed or 0) * _SPREAD + index) if batches.augment else None
        try:
            return read(path, batches.pixels, source), label
        except (InputError, UsageError) as error:
            return error


def _collated(items: list[Any]) -> LabelledBatch | Exception:
    for item in items:
        if isinstance(item, Exception):
            return item
    return torch.stack([image for image, _ in items]), torch.tensor([label for _, label in items])
