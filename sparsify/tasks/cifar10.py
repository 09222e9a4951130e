"""CIFAR-10: 60000 colour images of ten classes, in pickled or plain files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsify.data.cifar import Cifar, Layout

__all__ = ["Cifar10"]


@dataclass(frozen=True)
class Cifar10(Cifar):
    """Classify the colour images of CIFAR-10, read from the archive's files without running code.

    Batches hold float32 images `[N, 3, 32, 32]`, scaled so that every channel of the training split has mean 0 and
    deviation 1, and int64 labels `[N]`. The test files are the validation split.

    Attributes:
        folder: what the archive (python or binary version) unpacked to, or the folder around it.

    Raises:
        InputError: a file is missing, damaged or of another kind; the message names it.
        UntrustedError: a pickled file names something that could run code.
        UsageError: the batch size does not fit.

    Reference: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """

    name: ClassVar[str] = "cifar10"
    layout: ClassVar[Layout] = Layout(
        classes=10,
        key=b"labels",
        label_bytes=1,
        folders=("cifar-10-batches-py", "cifar-10-batches-bin"),
        pickled={"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "validation": ("test_batch",)},
        plain={"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "validation": ("test_batch.bin",)},
    )
    folder: str
