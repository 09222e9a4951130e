"""Small data sets in the formats that the built-in tasks read."""

import pickle
import struct
from pathlib import Path

import torch
from torch import Tensor


def idx_bytes(values: Tensor) -> bytes:
    """Return values as an IDX file of unsigned bytes."""
    header = struct.pack(f">I{values.ndim}I", 0x800 + values.ndim, *values.shape)
    return header + values.to(torch.uint8).numpy().tobytes()


def random_images(count: int, *shape: int, classes: int = 10, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw images uint8 `[count, *shape]` and labels int64 `[count]`, of which every class has its share."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)
    return images, torch.arange(count) % classes


def write_idx(folder: Path, train: int = 40, validation: int = 20) -> Path:
    """Write images of random pixels as MNIST's four files."""
    for number, (name, count) in enumerate((("train", train), ("t10k", validation))):
        images, labels = random_images(count, 28, 28, seed=number)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return folder


def write_cifar(folder: Path, names: list[str], key: str, count: int = 20, classes: int = 10) -> Path:
    """Write random images as pickled files like CIFAR's, each file other ones."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        images, labels = random_images(count, 3072, classes=classes, seed=number)
        entries = {b"data": images.numpy(), key.encode(): labels.tolist(), b"filenames": [b"x.png"] * count}
        (folder / name).write_bytes(pickle.dumps(entries, protocol=2))
    return folder


def write_cifar_plain(folder: Path, names: list[str], label_bytes: int, count: int = 20, classes: int = 10) -> Path:
    """Write the same images as `write_cifar` as plain files; the label before the last, if any, is 0."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        images, labels = random_images(count, 3072, classes=classes, seed=number)
        first = torch.zeros(count, label_bytes - 1, dtype=torch.uint8)
        records = torch.cat([first, labels.to(torch.uint8).unsqueeze(1), images], 1)
        (folder / name).write_bytes(records.numpy().tobytes())
    return folder


CIFAR10 = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
CIFAR10_PLAIN = [f"{name}.bin" for name in CIFAR10]


def write_images(folder: Path, classes: dict[str, int], size: tuple[int, int] = (20, 16), seed: int = 0) -> Path:
    """Write so many images for each class, of random pixels around a colour of its own."""
    from PIL import Image

    generator = torch.Generator().manual_seed(seed)
    for label, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = torch.randint(0, 100, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
            pixels[:, :, label % 3] += 150
            Image.fromarray(pixels.numpy()).save(folder / name / f"{number:03}.png")
    return folder
