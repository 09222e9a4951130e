import colorsys

import pytest
import torch

from sparsify.evaluation.draws import Draws
from sparsify.evaluation.weather import brightness, fog, frost, snow


@pytest.fixture
def images():
    return torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def draws(n=3):
    return Draws("weather", 0, 0, n)


def test_brightness_is_the_value_of_hsv(images):
    found = brightness(images, (0.2,), draws())
    for y, x in ((0, 0), (5, 7), (23, 2)):
        hue, saturation, value = colorsys.rgb_to_hsv(*images[1, :, y, x].tolist())
        expected = colorsys.hsv_to_rgb(hue, saturation, min(1.0, value + 0.2))
        assert found[1, :, y, x].tolist() == pytest.approx(expected, abs=1e-5)
    assert torch.equal(brightness(torch.zeros_like(images), (0.2,), draws()), torch.full_like(images, 0.2))
    grey = images[:, :1]
    assert torch.allclose(brightness(grey, (0.2,), draws()), (grey + 0.2).clamp_max(1), atol=1e-6)


def test_fog_is_a_mixture_with_clouds(images):
    """(x + c f) m / (m + c) is x m / (m + c) + f c m / (m + c): what two levels add is the same clouds."""
    peak = images.amax((1, 2, 3), keepdim=True)
    clouds = [(fog(images, (thick, 2.0), draws()) * (peak + thick) / peak - images) / thick for thick in (0.5, 2.0)]
    assert torch.allclose(clouds[0], clouds[1], atol=1e-5)
    assert clouds[0].min() == pytest.approx(0, abs=1e-5)
    assert clouds[0].max() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(clouds[0][:, 0], clouds[0][:, 2], atol=1e-5)  # grey


def test_frost_adds_ice_that_is_bluish(images):
    ice = frost(torch.zeros_like(images), (1.0,), draws())
    assert 0 <= ice.min() < ice.max() <= 1
    assert (ice[:, 2] >= ice[:, 0]).all()
    assert ice.flatten(1).std(1).min() > 0.05
    assert not torch.allclose(ice[0], ice[1])


def test_snow_is_white_and_covers_more_with_its_share(images):
    dark = torch.zeros_like(images)
    covered = []
    for share in (0.02, 0.06, 0.12):
        fallen = snow(dark, (share, 1.0, 2.0, 0.0), draws())
        assert torch.equal(fallen[:, 0], fallen[:, 2])
        covered.append(float((fallen > 0.1).float().mean()))
    assert covered == sorted(covered)
    assert 0.02 < covered[0] < covered[2] < 0.6
    assert (snow(images, (0.05, 1.0, 2.0, 0.3), draws()) >= images - 1e-6).all()  # nothing gets darker


@pytest.mark.parametrize("weather", [fog, frost, snow, brightness])
def test_images_of_any_size_and_shape(weather):
    level = {snow: (0.1, 1.0, 2.0, 0.2), brightness: (0.1,), frost: (0.7,)}.get(weather, (0.8, 1.8))
    for shape in ((1, 1, 8, 8), (2, 3, 33, 20), (1, 1, 5, 40), (1, 3, 130, 130)):
        found = weather(torch.rand(shape), level, draws(shape[0]))
        assert found.shape == shape
        assert found.isfinite().all()
