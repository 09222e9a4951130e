import sys

import pytest
import torch
from helpers.datasets import write_images
from torch import nn

from sparsify.errors import InputError, UsageError
from sparsify.task import Task, example_inputs, resolve
from sparsify.tasks.images import Images

pytest.importorskip("PIL")


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path / "train", {"blue": 7, "green": 5, "red": 6})
    return str(write_images(tmp_path / "val", {"blue": 2, "green": 3}, seed=1).parent)


def test_by_its_name(folder):
    task = resolve(f"images:{folder},size=32,workers=2,augment=no")
    assert isinstance(task, Task)
    assert task == Images(folder, size=32, workers=2, augment=False)
    assert task.classes == ["blue", "green", "red"]


def test_an_epoch(folder):
    batches = Images(folder, size=12, batch_size=4).batches("train", seed=1)
    assert len(batches) == len(list(batches)) == 4
    images, labels = next(iter(batches))
    assert (images.shape, images.dtype) == ((4, 3, 12, 12), torch.float32)
    assert (labels.shape, labels.dtype) == ((4,), torch.int64)


@pytest.mark.parametrize("augment", [False, True])
def test_the_seed_decides(folder, augment):
    task = Images(folder, size=8, batch_size=4, augment=augment)
    first, again, other = (torch.cat([x for x, _ in task.batches("train", seed=seed)]) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_validation_depends_on_no_seed(folder):
    task = Images(folder, size=8, batch_size=4)
    one, other = (list(task.batches("validation", seed=seed)) for seed in (1, 2))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one, other, strict=True))
    assert torch.cat([y for _, y in one]).tolist() == [0, 0, 1, 1, 1]


class Brightest(nn.Module):
    """The n-th class has much of the n-th colour."""

    def forward(self, x):
        return x.mean((2, 3))


def test_score(folder):
    score = Images(folder, size=8).score(Brightest())
    assert (score.value, score.n) == (1.0, 5)


def test_the_example_has_images_of_all_classes(folder):
    (images,), kwargs = example_inputs(Images(folder, size=8))
    assert (images.shape, kwargs) == ((8, 3, 8, 8), {})
    assert set(images.mean((2, 3)).argmax(1).tolist()) == {0, 1, 2}


def test_a_held_out_share(folder):
    task = Images(f"{folder}/train", size=8, validation=0.5, split_seed=3)
    assert sum(len(y) for _, y in task.batches("validation")) == 4 + 2 + 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 0.0}, "validation=0 is not between 0 and 1"),
        ({"size": 0}, "size=0 must be positive"),
        ({"workers": -1}, "workers=-1 not negative"),
        ({"batch_size": 99}, "batch_size=99 is not between 1 and 18"),
    ],
)
def test_impossible_options(folder, options, message):
    with pytest.raises(UsageError, match=message):
        Images(folder, **options).batches("train")


def test_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        Images(str(tmp_path / "nowhere")).batches("train")


def test_without_pillow(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match=r"pip install sparsify-fx\[data\]"):
        Images(folder).example()
