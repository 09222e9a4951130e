"""Images: a folder of image files for every class, as ImageNet and most sets of one's own are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from sparsify.data.image_files import PIXEL_RANGE, ImageBatches, ImageFile, find
from sparsify.data.labelled import Labelled, check_size, check_split
from sparsify.errors import UsageError
from sparsify.task import Split

__all__ = ["Images"]


@dataclass(frozen=True)
class Images(Labelled):
    """Classify the images of a folder: FOLDER/train/CLASS/FILE and FOLDER/val/CLASS/FILE, or FOLDER/CLASS/FILE.

    Batches hold float32 images `[N, 3, size, size]`, scaled by the mean and deviation of ImageNet's colours, (0.485,
    0.456, 0.406) and (0.229, 0.224, 0.225), and int64 labels `[N]`: the numbers of the classes in the order of their
    names. Files are decoded when their batch is asked for, so that the set may be larger than memory. The same seed
    gives the same batches, whatever `workers` is.

    Validation shows the middle of an image, 224/256 of its short side.

    Attributes:
        folder: has train and val (or validation) with a folder for every class, or the folders of the classes.
        size: width and height of the images that the model gets.
        batch_size: images in a batch.
        augment: whether training shows a random part of an image, 8% to 100% of it, and mirrors every other one.
        workers: how many further processes decode images.
        validation: the share of every class that is held out where there is no val; one image of a class at least.
        split_seed: of what is held out.

    Raises:
        InputError: a folder is missing or empty, classes do not fit, or an image is damaged; the message names it.
        UsageError: an option is out of its range, or Pillow is not installed.

    Reference: Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, 2015.
    """

    name: ClassVar[str] = "images"
    folder: str
    size: int = 224
    batch_size: int = 64
    augment: bool = True
    workers: int = 0
    validation: float = 0.1
    split_seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1:
            raise UsageError(f"images: validation={self.validation:g} is not between 0 and 1.")
        if self.size < 1 or self.workers < 0:
            raise UsageError(f"images: size={self.size} must be positive, and workers={self.workers} not negative.")

    @property
    def classes(self) -> list[str]:
        """The names of the classes, in the order of their labels."""
        return self._found[0]

    def batches(self, split: Split, *, seed: int = 0) -> ImageBatches:
        """Go once through a split; `train` in an order given by `seed`, without a smaller last batch."""
        check_split(self.name, split)
        files = self._found[1][split]
        check_size(self.name, self.batch_size, split, len(files))
        if split == "validation":
            return ImageBatches(files, self.size, self.batch_size, workers=self.workers)
        return ImageBatches(files, self.size, self.batch_size, seed, self.augment, partial=False, workers=self.workers)

    @property
    def pixel_range(self) -> tuple[list[float], list[float]]:
        """What black and white are in the images that a model gets, by channel."""
        return PIXEL_RANGE

    def example(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return 8 images of the training split, from all of its classes if it has so few."""
        files = self._found[1]["train"]
        chosen = files[:: max(1, len(files) // 8)][:8]
        images, _ = next(iter(ImageBatches(chosen, self.size, len(chosen))))
        return (images,), {}

    @cached_property
    def _found(self) -> tuple[list[str], Mapping[Split, list[ImageFile]]]:
        return find(Path(self.folder).expanduser(), self.validation, self.split_seed)
