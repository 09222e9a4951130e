import pytest
import torch
from helpers.datasets import CIFAR10, random_images, write_cifar
from torch import nn

from sparsify.errors import InputError, UsageError
from sparsify.task import Task, example_inputs, resolve
from sparsify.tasks.cifar10 import Cifar10


@pytest.fixture
def folder(tmp_path):
    return str(write_cifar(tmp_path, CIFAR10, "labels"))


def test_by_its_name(folder):
    task = resolve(f"cifar10:{folder},augment=no")
    assert isinstance(task, Task)
    assert task == Cifar10(folder, augment=False)


def test_an_epoch(folder):
    task = Cifar10(folder, batch_size=32)
    batches = task.batches("train", seed=1)
    assert len(batches) == len(list(batches)) == 3  # 5 files of 20 images
    images, labels = next(iter(batches))
    assert images.shape == (32, 3, 32, 32)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("augment", [False, True])
def test_the_seed_decides(folder, augment):
    task = Cifar10(folder, 32, augment)
    first, again, other = (torch.cat([x for x, _ in task.batches("train", seed=seed)]) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_only_training_images_are_augmented(folder):
    plain, changed = (torch.cat([x for x, _ in Cifar10(folder, 50, on).batches("train")]) for on in (False, True))
    assert not torch.equal(plain, changed)
    assert plain.mean((0, 2, 3)).tolist() == pytest.approx([0] * 3, abs=1e-5)
    assert plain.std((0, 2, 3)).tolist() == pytest.approx([1] * 3, abs=1e-4)
    black = plain.amin((0, 2, 3))  # the darkest of many random pixels is 0, as what comes in at the edges
    assert torch.equal(changed[:, :, 0].amin((0, 2)), black)
    validation = [torch.cat([x for x, _ in Cifar10(folder, 50, on).batches("validation")]) for on in (False, True)]
    assert torch.equal(*validation)


def test_validation_is_the_test_file(folder):
    labels = torch.cat([y for _, y in Cifar10(folder).batches("validation", seed=4)])
    assert torch.equal(labels, random_images(20, 3072, seed=5)[1])
    assert Cifar10(folder).score(nn.Flatten()).n == 20


def test_the_example(folder):
    (images,), kwargs = example_inputs(Cifar10(folder))
    assert (images.shape, kwargs) == ((8, 3, 32, 32), {})


def test_refusals(folder, tmp_path):
    with pytest.raises(UsageError, match="cifar10: batch_size=101 is not between 1 and 100"):
        Cifar10(folder, 101).batches("train")
    with pytest.raises(InputError, match="nowhere does not exist"):
        Cifar10(str(tmp_path / "nowhere")).batches("train")
