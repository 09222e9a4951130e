import torch
from helpers.datasets import random_images, write_cifar, write_cifar_plain

from sparsify.task import Task, resolve
from sparsify.tasks.cifar100 import Cifar100


def test_the_fine_labels_of_pickled_files(tmp_path):
    write_cifar(tmp_path / "cifar-100-python", ["train", "test"], "fine_labels", 120, classes=100)
    task = resolve(f"cifar100:{tmp_path}")
    assert isinstance(task, Task)
    images, labels = task.data("train")
    assert torch.equal(images.flatten(1), random_images(120, 3072)[0])
    assert torch.equal(labels, torch.arange(120) % 100)


def test_the_fine_labels_of_plain_files(tmp_path):
    write_cifar_plain(tmp_path, ["train.bin", "test.bin"], 2, 120, classes=100)
    task = Cifar100(str(tmp_path))
    assert torch.equal(task.data("validation")[0].flatten(1), random_images(120, 3072, seed=1)[0])
    assert torch.equal(task.data("validation")[1], torch.arange(120) % 100)
    (images, labels), *_ = Cifar100(str(tmp_path), batch_size=16).batches("train")
    assert (images.shape, labels.shape) == ((16, 3, 32, 32), (16,))
