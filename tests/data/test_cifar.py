import pickle

import numpy as np
import pytest
import torch
from helpers.datasets import CIFAR10, CIFAR10_PLAIN, random_images, write_cifar, write_cifar_plain

from sparsify.data.cifar import find, read
from sparsify.errors import InputError, UntrustedError
from sparsify.tasks.cifar10 import Cifar10

LAYOUT = Cifar10.layout


def test_both_versions_hold_the_same(tmp_path):
    write_cifar(tmp_path, CIFAR10, "labels")
    write_cifar_plain(tmp_path, CIFAR10_PLAIN, 1)
    for number, (pickled, plain) in enumerate(zip(CIFAR10, CIFAR10_PLAIN, strict=True)):
        images, labels = random_images(20, 3072, seed=number)
        for name in (pickled, plain):
            found, classes = read(tmp_path / name, LAYOUT)
            assert torch.equal(found, images.view(20, 3, 32, 32))
            assert torch.equal(classes, labels)


def test_files_that_python_3_wrote_again(tmp_path):
    images, labels = random_images(4, 3072)
    (tmp_path / "x").write_bytes(pickle.dumps({"data": images.numpy(), "labels": labels.numpy()}, protocol=4))
    found, classes = read(tmp_path / "x", LAYOUT)
    assert torch.equal(found.flatten(1), images)
    assert torch.equal(classes, labels)


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-py"])
def test_the_folder_or_the_one_around_it(tmp_path, inside):
    write_cifar(tmp_path / inside, CIFAR10, "labels", count=1)
    files = find(tmp_path, LAYOUT)
    assert files["train"] == [tmp_path / inside / name for name in CIFAR10[:5]]
    assert files["validation"] == [tmp_path / inside / "test_batch"]


def test_plain_files_where_there_are_no_others(tmp_path):
    write_cifar_plain(tmp_path / "cifar-10-batches-bin", CIFAR10_PLAIN, 1, count=1)
    assert find(tmp_path, LAYOUT)["validation"] == [tmp_path / "cifar-10-batches-bin" / "test_batch.bin"]


def test_what_is_missing(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        find(tmp_path / "nowhere", LAYOUT)
    with pytest.raises(InputError, match=r"neither data_batch_1 nor data_batch_1\.bin, and no cifar-10-batches-py or"):
        find(tmp_path, LAYOUT)
    write_cifar(tmp_path, [name for name in CIFAR10 if name != "data_batch_3"], "labels", count=1)
    with pytest.raises(InputError, match="has data_batch_1, but data_batch_3 is missing"):
        find(tmp_path, LAYOUT)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.bin", bytes(3073 + 7), "x.bin has 3080 bytes, which is no multiple of 3073"),
        ("x.bin", b"", "x.bin holds no image"),
        ("x.bin", b"\x0a" + bytes(3072), "x.bin has the label 10; there are 10 classes"),
        ("x", [1, 2], "x has no dictionary with data and labels"),
        ("x", {b"data": np.zeros((1, 3072), np.uint8)}, "x has no dictionary with data and labels"),
        ("x", {b"data": [1], b"labels": [1]}, r"x should hold its images as bytes \[N, 3072\]"),
        ("x", {b"data": np.zeros((1, 3072), np.int64), b"labels": [1]}, "x should hold its images as bytes"),
        (
            "x",
            {b"data": np.zeros((1, 3072), np.uint8), b"labels": ["cat"]},
            "x should hold its labels as whole numbers",
        ),
        ("x", {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}, "x has 2 images and 1 labels"),
        ("x", {b"data": np.zeros((1, 3072), np.uint8), b"labels": [-1]}, "x has the label -1"),
    ],
)
def test_files_that_hold_something_else(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=2))
    with pytest.raises(InputError, match=message):
        read(path, LAYOUT)


def test_a_file_that_would_run_code(tmp_path):
    (tmp_path / "x").write_bytes(b"cos\nsystem\n(S'exit 7'\ntR.")
    with pytest.raises(UntrustedError, match=r"x could run code when it is loaded: it uses os\.system"):
        read(tmp_path / "x", LAYOUT)
