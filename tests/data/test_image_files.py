import random

import numpy as np
import pytest
import torch
from helpers.datasets import write_images

from sparsify.data.image_files import ImageBatches, find, read
from sparsify.errors import InputError

Image = pytest.importorskip("PIL.Image")

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
DEVIATION = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def names(files):
    return [f"{path.parent.name}/{path.name} {label}" for path, label in files]


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_splits_of_their_own(tmp_path, validation):
    write_images(tmp_path / "train", {"b": 2, "a": 1})
    write_images(tmp_path / validation, {"b": 1})
    (tmp_path / "train" / "a" / "notes.txt").touch()
    (tmp_path / "train" / ".cache").mkdir()
    classes, splits = find(tmp_path, 0.1, 0)
    assert classes == ["a", "b"]
    assert names(splits["train"]) == ["a/000.png 0", "b/000.png 1", "b/001.png 1"]
    assert names(splits["validation"]) == ["b/000.png 1"]


@pytest.mark.parametrize("inside", ["", "train"])
def test_a_share_of_every_class_is_held_out(tmp_path, inside):
    write_images(tmp_path / inside, {"a": 10, "b": 5, "c": 1}, size=(1, 1))
    _, splits = find(tmp_path, 0.3, 0)
    train, validation = (names(splits[split]) for split in ("train", "validation"))
    assert len(train) + len(validation) == 16
    assert not set(train) & set(validation)
    assert [sum(name[0] == key for name in validation) for key in "abc"] == [3, 2, 0]
    assert names(find(tmp_path, 0.3, 0)[1]["validation"]) == validation
    assert names(find(tmp_path, 0.3, 1)[1]["validation"]) != validation


def test_a_class_has_images_in_both_splits_if_it_can(tmp_path):
    write_images(tmp_path, {"a": 2, "b": 2}, size=(1, 1))
    for share in (0.01, 0.99):
        assert {split: len(files) for split, files in find(tmp_path, share, 0)[1].items()} == {
            "train": 2,
            "validation": 2,
        }


def test_what_is_wrong_with_a_folder(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        find(tmp_path / "nowhere", 0.1, 0)
    with pytest.raises(InputError, match="has no folders with images"):
        find(tmp_path, 0.1, 0)
    write_images(tmp_path, {"a": 1})
    with pytest.raises(InputError, match=r"too few images for a share of 0\.1"):
        find(tmp_path, 0.1, 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"has folders without images \(.png, .*\): empty"):
        find(tmp_path, 0.1, 0)


def test_what_is_wrong_with_the_splits(tmp_path):
    write_images(tmp_path / "val", {"a": 1, "z": 1})
    with pytest.raises(InputError, match="has val but no train"):
        find(tmp_path, 0.1, 0)
    write_images(tmp_path / "train", {"a": 1})
    with pytest.raises(InputError, match=r"val has the classes z, which .*train does not have"):
        find(tmp_path, 0.1, 0)
    (tmp_path / "validation").mkdir()
    with pytest.raises(InputError, match="has val and validation"):
        find(tmp_path, 0.1, 0)


def test_an_image_is_scaled_by_the_usual_constants(tmp_path):
    Image.new("RGB", (30, 40), (255, 0, 51)).save(tmp_path / "x.png")
    found = read(tmp_path / "x.png", 5)
    assert (found.shape, found.dtype) == ((3, 5, 5), torch.float32)
    expected = (torch.tensor([1.0, 0.0, 0.2])[:, None, None] - MEAN) / DEVIATION
    torch.testing.assert_close(found, expected.expand(3, 5, 5))


def test_without_a_source_the_middle_is_shown(tmp_path):
    pixels = np.zeros((256, 512, 3), np.uint8)
    pixels[16:240, 144:368] = 255
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert (read(tmp_path / "x.png", 224) > 2).all()  # white is 2.2 at least, black is negative


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "LA"])
@pytest.mark.parametrize("ending", ["png", "webp", "bmp"])
def test_images_of_other_kinds(tmp_path, mode, ending):
    path = tmp_path / f"x.{ending}"
    try:
        Image.new(mode, (6, 6)).save(path)
    except OSError:
        pytest.skip(f"{ending} has no {mode}")
    assert read(path, 4).shape == (3, 4, 4)


def test_the_part_that_is_shown_is_drawn(tmp_path):
    write_images(tmp_path, {"a": 1}, size=(40, 30))
    path = tmp_path / "a" / "000.png"
    first, again, other = (read(path, 8, random.Random(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp"])
@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_damaged_images(tmp_path, ending, damage):
    path = tmp_path / f"x.{ending}"
    Image.effect_noise((64, 64), 90).convert("RGB").save(path)
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "other": b"no image at all"}[damage])
    with pytest.raises(InputError, match=rf"The image .*x\.{ending} cannot be read: "):
        read(path, 8)


@pytest.fixture
def files(tmp_path):
    return find(write_images(tmp_path, {"a": 6, "b": 5}), 0.1, 0)[1]["train"]


def same(one, other):
    return all(torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


def test_the_same_seed_gives_the_same_batches_with_any_number_of_workers(files):
    first, again, two, other = (
        list(ImageBatches(files, 8, 3, seed, augment=True, workers=workers))
        for seed, workers in ((5, 0), (5, 0), (5, 2), (6, 0))
    )
    assert same(first, again)
    assert same(first, two)
    assert not same(first, other)


def test_augmentation_changes_with_the_epoch_and_the_image(files):
    copies = [files[0]] * 4
    one, other = (torch.cat([x for x, _ in ImageBatches(copies, 8, 4, seed, augment=True)]) for seed in (1, 2))
    assert len({tuple(image.flatten().tolist()) for image in (*one, *other)}) == 8


def test_order_labels_and_lengths(files):
    batches = ImageBatches(files, 8, 4)
    assert len(batches) == len(list(batches)) == 3
    assert torch.cat([y for _, y in batches]).tolist() == [label for _, label in files]
    assert [len(y) for _, y in ImageBatches(files, 8, 4, 0, partial=False)] == [4, 4]
    assert len(ImageBatches(files, 8, 4, 0, partial=False)) == 2


def test_the_global_generators_are_left_alone(files):
    before = torch.get_rng_state(), random.getstate()
    list(ImageBatches(files, 8, 4, 3, augment=True))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named(files, workers):
    files[4][0].write_bytes(b"broken")
    with pytest.raises(InputError, match=rf"^The image {files[4][0]} cannot be read: .* take it out\.$"):
        list(ImageBatches(files, 8, 4, 0, workers=workers))
