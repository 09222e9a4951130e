import sys

import pytest
import torch

from sparsify.errors import UsageError
from sparsify.tasks import digits
from sparsify.tasks.digits import Digits


def test_the_split_is_fixed_and_stratified():
    (train, train_labels), (validation, labels) = Digits().data("train"), Digits().data("validation")
    assert train.shape == (1347, 1, 8, 8)
    assert validation.shape == (450, 1, 8, 8)
    assert (train.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert labels.bincount().tolist() == pytest.approx((train_labels.bincount() / 3).tolist(), abs=1)
    assert labels[:8].tolist() == [2, 0, 4, 9, 4, 1, 2, 4]
    assert not torch.equal(Digits(split_seed=1).data("validation")[1], labels)


def test_images_are_standardised_by_the_training_split():
    images = Digits().data("train")[0]
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std().item() == pytest.approx(1, abs=1e-5)
    assert len(images.unique()) == 17  # 0 to 16, the data's grey levels


def test_no_image_is_in_both_splits():
    train, validation = (
        set(map(tuple, Digits().data(split)[0].flatten(1).tolist())) for split in ("train", "validation")
    )
    assert not train & validation


def test_an_epoch():
    batches = Digits().batches("train", seed=1)
    assert len(batches) == 21
    assert {len(labels) for _, labels in batches} == {64}


def test_the_example_is_a_copy():
    task = Digits()
    (images,), _ = task.example()
    assert torch.equal(images, task.data("train")[0][:8])
    images.zero_()
    assert not torch.equal(images, task.data("train")[0][:8])


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    digits._load.cache_clear()
    with pytest.raises(UsageError, match=r"pip install sparsify-fx\[data\]"):
        Digits().data("train")
