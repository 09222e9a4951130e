import random

import pytest
import torch
from torch.nn import functional as F

from sparsify.data.augmentation import crop_and_flip, resized_box


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.randint(1, 256, (40, 3, 7, 9), generator=seeded(0), dtype=torch.uint8)


def test_every_image_is_a_window_of_the_padded_one_mirrored_or_not(images):
    found = crop_and_flip(images, seeded(1), padding=2)
    assert (found.shape, found.dtype) == (images.shape, images.dtype)
    places = set()
    for image, result in zip(images, found, strict=True):
        padded = F.pad(image, [2] * 4)
        same = [
            (row, column, mirrored)
            for row in range(5)
            for column in range(5)
            for mirrored in (False, True)
            if torch.equal(
                padded[:, row : row + 7, column : column + 9].flip(2)
                if mirrored
                else padded[:, row : row + 7, column : column + 9],
                result,
            )
        ]
        assert len(same) == 1
        places.update(same)
    rows, columns, mirrored = (set(part) for part in zip(*places, strict=True))
    assert (rows, columns, mirrored) == (set(range(5)), set(range(5)), {False, True})


def test_the_seed_decides(images):
    first, again, other = (crop_and_flip(images, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_box_lies_in_the_image_and_has_a_permitted_shape():
    source = random.Random(0)
    boxes = [resized_box(120, 90, source) for _ in range(300)]
    for left, upper, right, lower in boxes:
        assert 0 <= left < right <= 120
        assert 0 <= upper < lower <= 90
        assert 0.7 < (right - left) / (lower - upper) < 1.4
    shares = [(right - left) * (lower - upper) / (120 * 90) for left, upper, right, lower in boxes]
    assert 0.07 < min(shares) < 0.15
    assert 0.85 < max(shares) <= 1


@pytest.mark.parametrize(("size", "box"), [((400, 9), (194, 0, 206, 9)), ((9, 400), (0, 194, 9, 206))])
def test_a_narrow_image_gives_its_middle(size, box):
    found = [resized_box(*size, random.Random(seed)) for seed in range(40)]
    assert box in found
    assert all(0 <= left < right <= size[0] and 0 <= upper < lower <= size[1] for left, upper, right, lower in found)


def test_an_image_of_one_pixel():
    assert resized_box(1, 1, random.Random(0)) == (0, 0, 1, 1)
