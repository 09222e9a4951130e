import gzip

import pytest
import torch
from helpers.datasets import idx_bytes

from sparsify.data import idx
from sparsify.errors import InputError, UsageError

IMAGES = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)


def write(folder, names, content=b""):
    for name in names:
        (folder / name).write_bytes(content)


def test_the_bytes_of_a_file(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(bytes.fromhex("00000803 00000002 00000003 00000004") + bytes(range(24)))
    assert torch.equal(idx.read(path, 3), IMAGES)
    assert path.read_bytes() == idx_bytes(IMAGES)


@pytest.mark.parametrize("name", ["images.gz", "images"])
def test_compressed_whatever_the_name(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(idx_bytes(IMAGES)))
    assert torch.equal(idx.read(tmp_path / name, 3), IMAGES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "magic number is 0x00000000, not 0x00000803"),
        (b"\x89PNG....", "magic number is 0x89504e47, not 0x00000803"),
        (idx_bytes(torch.zeros(5)), "0x00000801, not 0x00000803. It has 1 dimension"),
        (b"\0\0\x0d\x03" + bytes(12), "numbers of another type"),
        (idx_bytes(IMAGES)[:9], "ends within its header"),
        (idx_bytes(IMAGES)[:-1], "2 x 3 x 4 bytes, which are 24, and has 23"),
        (idx_bytes(IMAGES) + b"\0", "and has 25"),
        (idx_bytes(torch.zeros(0, 28, 28)), "is empty"),
        (gzip.compress(idx_bytes(IMAGES), mtime=0)[:-9], "cannot be read.*complete copy"),
        (b"\x1f\x8b\x08\x00 broken", "cannot be read"),
    ],
)
def test_damaged_files(tmp_path, content, message):
    (tmp_path / "x-images").write_bytes(content)
    with pytest.raises(InputError, match=f"x-images .*{message}"):
        idx.read(tmp_path / "x-images", 3)


def test_images_and_labels_that_do_not_belong_together(tmp_path):
    (tmp_path / "i").write_bytes(idx_bytes(IMAGES))
    (tmp_path / "l").write_bytes(idx_bytes(torch.zeros(3)))
    with pytest.raises(InputError, match=r"i has 2 images, but .*l has 3 labels"):
        idx.read_labelled(tmp_path / "i", tmp_path / "l")


@pytest.mark.parametrize("dash", ["-", "."])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_the_names_of_files(tmp_path, dash, ending):
    names = [f"train-images{dash}idx3-ubyte{ending}", f"train-labels{dash}idx1-ubyte{ending}"]
    write(tmp_path, [*names, "train-images.txt"])
    assert idx.find(tmp_path, "train") == tuple(tmp_path / name for name in names)


def test_a_plain_file_wins_over_its_compressed_original(tmp_path):
    write(tmp_path, [f"t10k-{kind}-ubyte{ending}" for kind in ("images-idx3", "labels-idx1") for ending in ("", ".gz")])
    assert [path.suffix for path in idx.find(tmp_path, "validation")] == ["", ""]


def test_several_sets_in_a_folder(tmp_path):
    for name in ("emnist-digits", "emnist-letters"):
        write(tmp_path, [f"{name}-test-images-idx3-ubyte.gz", f"{name}-test-labels-idx1-ubyte.gz"])
    with pytest.raises(UsageError, match="prefix= one of emnist-digits, emnist-letters"):
        idx.find(tmp_path, "validation")
    images, _ = idx.find(tmp_path, "validation", "emnist-digits")
    assert images.name == "emnist-digits-test-images-idx3-ubyte.gz"
    with pytest.raises(InputError, match="emnist-mnist-t10k-images-idx3-ubyte is missing"):
        idx.find(tmp_path, "validation", "emnist-mnist")


def test_what_is_missing(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        idx.find(tmp_path / "nowhere", "train")
    write(tmp_path, ["train-images-idx3-ubyte"])
    with pytest.raises(InputError, match="no labels to train with: the file train-labels-idx1-ubyte is missing"):
        idx.find(tmp_path, "train")
    with pytest.raises(InputError, match="no images to validate with: the file t10k-images-idx3-ubyte is missing"):
        idx.find(tmp_path, "validation")
