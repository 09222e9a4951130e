import numpy as np
import pytest
import torch
from scipy import ndimage

from sparsify.evaluation.warping import blurred, clouds, convolved, moved, shifted, zoomed


@pytest.fixture
def images():
    return torch.rand(2, 3, 12, 9, generator=torch.Generator().manual_seed(0))


def test_a_blur_is_that_of_scipy(images):
    expected = ndimage.gaussian_filter(images.numpy(), (0, 0, 1.3, 1.3), mode="nearest", radius=4)
    assert np.allclose(blurred(images, 1.3).numpy(), expected, atol=1e-6)


def test_a_kernel_is_applied_to_every_channel(images):
    kernel = torch.rand(3, 5)
    expected = ndimage.correlate(images[1, 2].numpy(), kernel.numpy(), mode="nearest")
    assert np.allclose(convolved(images, kernel)[1, 2].numpy(), expected, atol=1e-5)


def test_moving_takes_what_is_between_pixels(images):
    places = np.mgrid[0:12, 0:9] + np.array([0.5, -1.25])[:, None, None]
    expected = ndimage.map_coordinates(images[0, 1].numpy(), places, order=1, mode="nearest")
    found = moved(images, torch.tensor(0.5), torch.tensor(-1.25))
    assert np.allclose(found[0, 1].numpy(), expected, atol=1e-5)


def test_each_image_moves_by_itself(images):
    rows = torch.tensor([0.0, 2.0])[:, None, None]
    found = moved(images, rows, torch.tensor(0.0))
    assert torch.allclose(found[0], images[0], atol=1e-5)
    assert torch.allclose(found[1, :, :-2], images[1, :, 2:], atol=1e-5)


def test_whole_pixels_are_taken_as_they_are(images):
    rows, columns = torch.zeros(2, 12, 9), torch.zeros(2, 12, 9)
    rows[0, 3, 4], columns[0, 3, 4] = 2, -1
    found = shifted(images, rows, columns)
    assert torch.equal(found[0, :, 3, 4], images[0, :, 5, 3])
    found[0, :, 3, 4] = images[0, :, 3, 4]
    assert torch.equal(found, images)
    assert torch.equal(shifted(images, rows + 99, columns)[..., 0, 0], images[..., 11, 0])


def test_zooming_keeps_the_middle():
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 4], image[0, 0, 4, 6] = 1, 0.5
    found = zoomed(image, 2.0)
    assert found[0, 0, 4, 4] == pytest.approx(1)
    assert found[0, 0, 4, 8] == pytest.approx(0.5)  # twice as far from the middle
    assert torch.allclose(zoomed(image, 1.0), image, atol=1e-6)


def test_clouds_go_from_0_to_1_in_every_image():
    layers = [torch.rand(3, 1, side, side) for side in (3, 5, 9)]
    found = clouds(layers, (16, 20), 2.0)
    assert found.shape == (3, 1, 16, 20)
    assert torch.allclose(found.amin((1, 2, 3)), torch.zeros(3), atol=1e-6)
    assert torch.allclose(found.amax((1, 2, 3)), torch.ones(3), atol=1e-6)
