"""CIFAR-100: 60000 colour images of a hundred classes, in pickled or plain files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsify.data.cifar import Cifar, Layout

__all__ = ["Cifar100"]


@dataclass(frozen=True)
class Cifar100(Cifar):
    """Classify the colour images of CIFAR-100, read from the archive's files without running code.

    Batches hold float32 images `[N, 3, 32, 32]`, scaled so that every channel of the training split has mean 0 and
    deviation 1, and int64 labels `[N]` of the 100 fine classes. The test files are the validation split.

    Attributes:
        folder: what the archive (python or binary version) unpacked to, or the folder around it.

    Raises:
        InputError: a file is missing, damaged or of another kind; the message names it.
        UntrustedError: a pickled file names something that could run code.
        UsageError: the batch size does not fit.

    Reference: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """

    name: ClassVar[str] = "cifar100"
    layout: ClassVar[Layout] = Layout(
        classes=100,
        key=b"fine_labels",
        label_bytes=2,
        folders=("cifar-100-python", "cifar-100-binary"),
        pickled={"train": ("train",), "validation": ("test",)},
        plain={"train": ("train.bin",), "validation": ("test.bin",)},
    )
    folder: str
