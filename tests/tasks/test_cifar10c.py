import numpy as np
import pytest
import torch
from torch import nn

from sparsify.errors import UsageError
from sparsify.task import resolve


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("fog", "snow"):
        np.save(tmp_path / f"{name}.npy", rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8))
    np.save(tmp_path / "labels.npy", np.tile(np.arange(4, dtype=np.uint8), 5))
    return tmp_path


def test_batches_hold_what_the_file_holds(folder):
    task = resolve(f"cifar10c:{folder},corruption=fog,severity=2,batch_size=3")
    batches = list(task.batches("validation"))
    assert [len(labels) for _, labels in batches] == [3, 1]
    assert len(task.batches("validation")) == 2
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    raw = np.load(folder / "fog.npy")[4:8]
    mean, deviation = np.array([125.3069, 122.9501, 113.8660]), np.array([62.9932, 62.0887, 66.7048])
    expected = ((raw - mean) / deviation).transpose(0, 3, 1, 2)
    assert np.allclose(images.numpy(), expected, atol=1e-5)
    assert labels.tolist() == [0, 1, 2, 3]
    assert images.dtype == torch.float32


def test_without_options_it_is_all_of_them(folder):
    task = resolve(f"cifar10c:{folder}")
    assert sum(len(labels) for _, labels in task.batches("validation")) == 40

    class Zero(nn.Module):
        def forward(self, x):
            return torch.eye(10)[0].expand(len(x), 10)

    found = task.score(Zero())
    assert (found.value, found.n) == (0.25, 40)
    assert task.example()[0][0].shape == (8, 3, 32, 32)


def test_black_and_white(folder):
    task = resolve(f"cifar10c:{folder}")
    black, white = task.pixel_range
    assert black[0] == pytest.approx(-125.3069 / 62.9932)
    assert white[2] == pytest.approx((255 - 113.8660) / 66.7048)


def test_what_is_refused(folder):
    with pytest.raises(UsageError, match="severity=6 is not between 1 and 5"):
        resolve(f"cifar10c:{folder},severity=6")
    with pytest.raises(UsageError, match="batch_size=0"):
        resolve(f"cifar10c:{folder},batch_size=0")
    with pytest.raises(UsageError, match="no training images: train with cifar10"):
        resolve(f"cifar10c:{folder}").batches("train")
    with pytest.raises(UsageError, match="has the splits"):
        resolve(f"cifar10c:{folder}").batches("test")
