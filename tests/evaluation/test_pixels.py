import re

import pytest
import torch
from helpers.datasets import CIFAR10, write_cifar, write_idx, write_images
from torch import nn

import sparsify as sp
from sparsify.data.image_files import read
from sparsify.data.pixels import scaled_range
from sparsify.errors import UsageError
from sparsify.evaluation.pixels import PixelRange, image_of, pixel_range
from sparsify.task import resolve


def loaders(images, **more):
    data = [(images[:3], torch.zeros(3)), (images[3:], torch.zeros(len(images) - 3))]
    return sp.LoaderTask(data, data, lambda model, batch: model(batch[0]).sum(), **more)


def images():
    return torch.rand(6, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2, 3])[:, None, None]


def test_what_a_task_says_is_taken():
    found = pixel_range(loaders(images(), pixel_range=(-1, 4)), nn.Identity())
    assert isinstance(found, PixelRange)
    assert (found.channels, found.size, found.derived) == (3, (5, 5), False)
    assert found.black.flatten().tolist() == [-1, -1, -1]
    by_channel = pixel_range(loaders(images(), pixel_range=([0, -1, 0], torch.tensor([1.0, 2, 3]))), nn.Identity())
    assert by_channel.black.flatten().tolist() == [0, -1, 0]
    assert by_channel.white.flatten().tolist() == [1, 2, 3]


def test_the_extremes_of_all_batches_are_taken_otherwise():
    found = pixel_range(loaders(images()), nn.Identity())
    assert found.derived
    assert torch.equal(found.black.flatten(), images().amin((0, 2, 3)))
    assert torch.equal(found.white.flatten(), images().amax((0, 2, 3)))


def test_pixels_and_inputs_are_opposites():
    scale = PixelRange(torch.tensor([-1.0, 0])[:, None, None], torch.tensor([3.0, 2])[:, None, None], (2, 2), False)
    inputs = torch.tensor([-1.0, 1, 3, 5])[:, None, None, None].expand(4, 2, 2, 2)
    pixels = scale.pixels(inputs)
    assert pixels[:, 0, 0, 0].tolist() == [0, 0.5, 1, 1]  # what is whiter than white is white
    assert pixels[:, 1, 0, 0].tolist() == [0, 0.5, 1, 1]
    assert torch.allclose(scale.inputs(pixels)[:3, 0], inputs[:3, 0])


def test_the_built_in_tasks_know_black_and_white(tmp_path):
    from sklearn.datasets import load_digits

    digits = resolve("digits")
    found = pixel_range(digits, nn.Flatten())
    first = next(iter(digits.batches("validation")))[0]
    pixels = 16 * found.pixels(first)
    assert torch.allclose(pixels, pixels.round(), atol=1e-4)  # the data is whole numbers from 0 to 16
    assert (pixels.round().amax(), load_digits().images.max()) == (16, 16)
    write_cifar(tmp_path / "cifar", CIFAR10, "labels")
    write_idx(tmp_path)
    for spec in (f"cifar10:{tmp_path / 'cifar'},batch_size=8", f"mnist:{tmp_path},batch_size=8"):
        task = resolve(spec)
        raw = task.data("validation")[0][:8]
        given = next(iter(task.batches("validation")))[0]
        assert torch.allclose(255 * pixel_range(task, nn.Flatten()).pixels(given), raw.float(), atol=1e-3)
    folder = write_images(tmp_path / "images", {"a": 4, "b": 4})
    path = next((folder / "a").iterdir())
    scale = pixel_range(resolve(f"images:{folder},size=16,batch_size=2"), nn.Flatten())
    pixels = 255 * scale.pixels(read(path, 16)[None])
    assert torch.allclose(pixels, pixels.round(), atol=1e-3)


def test_the_range_of_a_mean_and_a_deviation():
    black, white = scaled_range(torch.tensor([0.5, 0.4]), torch.tensor([0.25, 0.2]))
    assert black == pytest.approx([-2, -2])
    assert white == pytest.approx([2, 3])


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ((torch.zeros(2, 3), torch.zeros(2, 3)), "the model gets 2 tensors"),
        ((torch.zeros(2, 9).long(),), r"the model gets int64 \[2, 9\], which are no images"),
        ((torch.zeros(2, 4, 5, 5),), "the images have 4 channels"),
        ((), "the model gets 0 tensors"),
    ],
)
def test_what_is_no_image(args, reason):
    found, why = image_of(args, {})
    assert found is None
    assert re.search(reason, why)


def test_a_task_without_images_says_so():
    assert pixel_range(loaders(torch.zeros(6, 9)), nn.Identity()) == (
        "the model gets float32 [3, 9], which are no images"
    )
    silent = sp.LoaderTask([], [], lambda model, batch: torch.tensor(0.0))
    assert pixel_range(silent, nn.Identity()) == "the task gives the model nothing"


def test_a_range_that_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="has 2 values and its images 3 channels"):
        pixel_range(loaders(images(), pixel_range=([0, 0], 1)), nn.Identity())
    with pytest.raises(UsageError, match="white must be more than black"):
        pixel_range(loaders(images(), pixel_range=(1, 0)), nn.Identity())
