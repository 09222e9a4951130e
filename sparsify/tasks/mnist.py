"""MNIST: images and labels in IDX files, as MNIST, Fashion-MNIST and EMNIST are published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sparsify.data import idx
from sparsify.data.labelled import LabelledBatch
from sparsify.data.pixels import Pixels
from sparsify.errors import InputError
from sparsify.task import Split

__all__ = ["Mnist"]


@dataclass(frozen=True)
class Mnist(Pixels):
    """Classify the images of IDX files: MNIST, Fashion-MNIST, EMNIST and their like.

    Batches hold float32 images `[N, 1, 28, 28]` (or whatever size the files have), scaled so that the training split
    has mean 0 and deviation 1, and int64 labels `[N]`. The files called t10k (or test) are the validation split.

    Attributes:
        folder: where train-images-idx3-ubyte and the three other files lie, plain or as .gz.
        batch_size: images in a batch.
        prefix: what the names of the files start with, when the folder has several sets, such as emnist-digits.

    Raises:
        InputError: a file is missing, damaged or of another kind; the message names it.
        UsageError: the folder has several sets, or the batch size does not fit.

    Reference: LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document Recognition, 1998; Xiao,
    Rasul and Vollgraf, Fashion-MNIST, 2017; Cohen et al., EMNIST, 2017 (its images lie on their side).
    """

    name: ClassVar[str] = "mnist"
    folder: str
    batch_size: int = 128
    prefix: str | None = None

    def load(self) -> Mapping[Split, LabelledBatch]:
        """Read both splits."""
        folder = Path(self.folder).expanduser()
        splits: dict[Split, LabelledBatch] = {}
        for split in ("train", "validation"):
            images, labels = idx.read_labelled(*idx.find(folder, split, self.prefix))
            splits[split] = images.unsqueeze(1), labels
        sizes = {tuple(images.shape[2:]) for images, _ in splits.values()}
        if len(sizes) > 1:
            raise InputError(f"The images in {folder} differ in size: {' and '.join(map(str, sorted(sizes)))}.")
        return splits
