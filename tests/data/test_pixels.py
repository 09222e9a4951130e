import pytest
import torch

from sparsify.data.pixels import Pixels, moments
from sparsify.errors import InputError


class Colours(Pixels):
    """Two channels of very different brightness; training images are shown upside down."""

    name = "colours"
    batch_size = 4

    def __init__(self, images):
        self.images, self.loaded = images, 0

    def load(self):
        self.loaded += 1
        labels = torch.zeros(len(self.images), dtype=torch.int64)
        return {"train": (self.images, labels), "validation": (self.images[:2], labels[:2])}

    def augmented(self, images, generator):
        return images.flip(2)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    dark = torch.randint(0, 20, (9, 1, 3, 5), generator=generator, dtype=torch.uint8)
    return torch.cat([dark, torch.randint(90, 256, (9, 1, 3, 5), generator=generator, dtype=torch.uint8)], 1)


def test_mean_and_deviation_of_every_channel(images):
    mean, deviation = moments(images)
    values = images.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(mean.flatten().double(), values.mean(1))
    torch.testing.assert_close(deviation.flatten().double(), values.std(1, unbiased=False))


def test_batches_are_standardised_by_the_training_split(images):
    task = Colours(images)
    (x, _), *_ = task.batches("validation")
    mean, deviation = moments(images)
    assert x.dtype == torch.float32
    assert torch.equal(x, (images[:2].float() - mean) / deviation)
    assert task.data("validation")[0].dtype == torch.uint8
    assert task.loaded == 1


def test_only_training_images_are_changed(images):
    task = Colours(images)
    shown = torch.cat([x for x, _ in task.batches("train", seed=3)])
    mean, deviation = moments(images)
    plain = (images.float() - mean) / deviation
    assert len(shown) == 8
    assert all(any(torch.equal(x.flip(1), y) for y in plain) for x in shown)
    (example,), _ = task.example()
    assert torch.equal(example, plain[:8])


def test_images_of_one_colour():
    task = Colours(torch.full((8, 1, 2, 2), 7, dtype=torch.uint8))
    with pytest.raises(InputError, match="colours: all training images are of one colour"):
        next(iter(task.batches("train")))
