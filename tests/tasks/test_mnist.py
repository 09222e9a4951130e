import pytest
import torch
from helpers.command import sparsify
from helpers.datasets import idx_bytes, random_images, write_idx
from torch import nn

from sparsify.errors import InputError, UsageError
from sparsify.task import Task, example_inputs, resolve
from sparsify.tasks.mnist import Mnist


def test_by_its_name(tmp_path):
    task = resolve(f"mnist:{write_idx(tmp_path)}")
    assert isinstance(task, Task)
    assert task == Mnist(str(tmp_path))
    assert resolve(f"mnist:{tmp_path},batch_size=7") == Mnist(str(tmp_path), 7)
    with pytest.raises(UsageError, match="mnist needs folder"):
        resolve("mnist")


def test_an_epoch(tmp_path):
    task = Mnist(str(write_idx(tmp_path)), batch_size=16)
    batches = task.batches("train", seed=1)
    assert len(batches) == len(list(batches)) == 2
    images, labels = next(iter(batches))
    assert images.shape == (16, 1, 28, 28)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    again, other = (next(iter(task.batches("train", seed=seed)))[0] for seed in (1, 2))
    assert torch.equal(images, again)
    assert not torch.equal(images, other)


def test_training_images_have_mean_zero_and_deviation_one(tmp_path):
    task = Mnist(str(write_idx(tmp_path)), batch_size=40)
    images, _ = next(iter(task.batches("train")))
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std(unbiased=False).item() == pytest.approx(1, abs=1e-5)


def test_validation_is_the_test_files_in_their_order(tmp_path):
    task = Mnist(str(write_idx(tmp_path)), batch_size=16)
    stored, expected = random_images(20, 28, 28, seed=1)
    images, labels = (torch.cat(part) for part in zip(*task.batches("validation"), strict=True))
    assert torch.equal(labels, expected)
    assert torch.equal(images[:, 0].argsort(stable=True), stored.argsort(stable=True))
    assert task.score(torch.nn.Flatten()).n == 20
    assert torch.equal(task.labels((images, labels)), labels)


def test_the_example(tmp_path):
    (images,), kwargs = example_inputs(Mnist(str(write_idx(tmp_path))))
    assert (images.shape, images.dtype, kwargs) == ((8, 1, 28, 28), torch.float32, {})


def test_from_the_command_line(tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 13 * 13, 10))
    torch.save(model, tmp_path / "model.pt")  # the task gives the example to capture it with
    ran = sparsify(
        *(tmp_path / "model.pt", "--task", f"mnist:{write_idx(tmp_path)},batch_size=16"),
        *("--retrain", "fine-tune:steps=3it", "-o", tmp_path / "small.pt2"),
    )
    assert (ran.status, ran.err) == (0, "")
    assert "n = 20" in ran.out
    ran = sparsify(tmp_path / "small.pt2", "--task", f"mnist:{tmp_path}/nowhere", "--retrain", "fine-tune:steps=3it")
    assert ran.status == 2
    assert "nowhere does not exist" in " ".join(ran.err.split())


def test_images_of_two_sizes(tmp_path):
    write_idx(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(torch.zeros(20, 8, 8)))
    with pytest.raises(InputError, match=r"differ in size: \(8, 8\) and \(28, 28\)"):
        Mnist(str(tmp_path)).batches("train")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        Mnist(str(tmp_path / "nowhere")).batches("train")
