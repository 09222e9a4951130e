import numpy as np
import pytest
import torch

from sparsify.data.corrupted_files import find, labels_of, read
from sparsify.errors import InputError


def write(folder, name="fog", count=10, seed=0, **wrong):
    rng = np.random.default_rng(seed)
    images = wrong.get("images", rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8))
    np.save(folder / f"{name}.npy", images)
    np.save(folder / "labels.npy", wrong.get("labels", np.arange(count, dtype=np.int32) % 10))
    return images


def test_a_severity_is_a_fifth(tmp_path):
    images = write(tmp_path)
    labels = labels_of(tmp_path)
    assert labels.dtype == torch.int64
    for severity in range(1, 6):
        found, classes = read(tmp_path / "fog.npy", labels, severity)
        assert np.array_equal(found, images[2 * severity - 2 : 2 * severity])
        assert classes.tolist() == [2 * severity - 2, 2 * severity - 1]
    assert len(read(tmp_path / "fog.npy", labels, 0)[0]) == 10


def test_files_are_found_by_name(tmp_path):
    write(tmp_path, "fog")
    write(tmp_path, "gaussian_noise")
    assert find(tmp_path, "gaussian-noise") == [tmp_path / "gaussian_noise.npy"]
    assert find(tmp_path, "all") == [tmp_path / "fog.npy", tmp_path / "gaussian_noise.npy"]
    with pytest.raises(InputError, match=r"has no fogg\.npy.*There are: fog, gaussian_noise"):
        find(tmp_path, "fogg")
    with pytest.raises(InputError, match="nowhere does not exist"):
        find(tmp_path / "nowhere", "all")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no files of images"):
        find(tmp_path / "empty", "all")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"images": np.zeros((10, 32, 32, 3), np.float32)}, r"bytes \[N, H, W, 3\], and holds float32"),
        ({"images": np.zeros((10, 32, 32), np.uint8)}, r"holds uint8 \[10, 32, 32\]"),
        ({"images": np.zeros((5, 32, 32, 3), np.uint8)}, "has 5 images and labels.npy 10 labels"),
        ({"images": np.zeros((9, 4, 4, 3), np.uint8), "labels": np.arange(9)}, "a fifth for each severity"),
    ],
)
def test_what_is_no_such_file(tmp_path, wrong, message):
    write(tmp_path, **wrong)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "fog.npy", labels_of(tmp_path), 1)


def test_damaged_and_pickled_files_are_refused(tmp_path):
    write(tmp_path)
    content = (tmp_path / "fog.npy").read_bytes()
    (tmp_path / "fog.npy").write_bytes(content[:-100])
    with pytest.raises(InputError, match=r"fog\.npy cannot be read as an array"):
        read(tmp_path / "fog.npy", labels_of(tmp_path), 1)
    np.save(tmp_path / "labels.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"labels\.npy cannot be read"):
        labels_of(tmp_path)
    np.save(tmp_path / "labels.npy", np.zeros(4))
    with pytest.raises(InputError, match=r"should hold labels.*float64 \[4\]"):
        labels_of(tmp_path)
    (tmp_path / "labels.npy").unlink()
    with pytest.raises(InputError, match=r"labels\.npy does not exist"):
        labels_of(tmp_path)
