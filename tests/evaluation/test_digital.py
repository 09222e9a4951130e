import builtins
import colorsys
import io

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sparsify.errors import UsageError
from sparsify.evaluation.digital import contrast, elastic, jpeg, pixelate, saturate
from sparsify.evaluation.draws import Draws


@pytest.fixture
def images():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def draws(n=2):
    return Draws("digital", 0, 0, n)


def test_contrast_keeps_the_mean(images):
    found = contrast(images, (0.3,), draws())
    assert torch.allclose(found.mean((2, 3)), images.mean((2, 3)), atol=1e-6)
    assert torch.allclose(found.std((2, 3)), 0.3 * images.std((2, 3)), atol=1e-6)


def test_saturation_is_that_of_hsv(images):
    found = saturate(images, (2.0,), draws())
    for y, x in ((0, 0), (5, 7), (15, 2)):
        hue, saturation, value = colorsys.rgb_to_hsv(*images[1, :, y, x].tolist())
        expected = colorsys.hsv_to_rgb(hue, min(1.0, 2 * saturation), value)
        assert found[1, :, y, x].tolist() == pytest.approx(expected, abs=1e-5)
    grey = images[:, :1].expand(-1, 3, -1, -1)
    assert torch.equal(saturate(grey, (5.0,), draws()), grey)


def test_pixels_of_a_whole_size_are_means_of_squares(images):
    expected = F.interpolate(F.avg_pool2d(images, 4), scale_factor=4, mode="nearest")
    assert torch.allclose(pixelate(images, (4.0,), draws()), expected, atol=1e-6)
    assert torch.allclose(pixelate(images, (1.0,), draws()), images, atol=1e-6)


def test_pixels_of_a_broken_size_share_what_they_cover():
    line = torch.tensor([[[[0.0, 3.0, 6.0]]]]).expand(1, 1, 3, 3)
    # Blocks of 1.5 pixels have the means (0 + 1.5) / 1.5 = 1 and (1.5 + 6) / 1.5 = 5; the middle has half of each.
    assert pixelate(line, (1.5,), draws(1))[0, 0, 0].tolist() == pytest.approx([1, 3, 5])


def test_elastic_moves_by_its_deviation():
    ramp = torch.arange(64.0).expand(2, 1, 64, 64)
    moved = (elastic(ramp, (0.02, 0.06), draws()) - ramp)[..., 8:-8, 8:-8]
    assert moved.std() == pytest.approx(0.02 * 64, rel=0.35)  # one draw of a smooth field
    assert (moved[..., 1:] - moved[..., :-1]).abs().max() < 1.5  # smooth


def test_jpeg_is_that_of_pillow(images):
    from PIL import Image

    pixels = (images * 255).round().byte()
    for picture, mode in ((pixels, "RGB"), (pixels[:, :1], "L")):
        found = jpeg(picture.float() / 255, (40,), draws())
        raw = picture[1].permute(1, 2, 0).numpy()
        file = io.BytesIO()
        Image.fromarray(raw if mode == "RGB" else raw[:, :, 0]).save(file, "JPEG", quality=40)
        expected = np.array(Image.open(file)).reshape(raw.shape)
        assert torch.equal((found[1] * 255).round().byte(), torch.from_numpy(expected).permute(2, 0, 1))


def test_without_pillow_there_is_no_jpeg(images, monkeypatch):
    real = builtins.__import__

    def broken(name, *args, **kwargs):
        if name == "PIL":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(UsageError, match=r"jpeg needs Pillow: pip install sparsify-fx\[data\]"):
        jpeg(images, (40,), draws())
