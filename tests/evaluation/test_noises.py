import pytest
import torch

from sparsify.evaluation.draws import Draws
from sparsify.evaluation.noises import gaussian_noise, impulse_noise, shot_noise, speckle_noise

GREY = torch.full((8, 3, 40, 40), 0.5)  # 38,400 values: a deviation is known to a percent


def draws():
    return Draws("noise", 0, 0, len(GREY))


def test_gaussian_noise_has_its_deviation():
    noise = gaussian_noise(GREY, (0.1,), draws()) - GREY
    assert noise.std() == pytest.approx(0.1, rel=0.02)
    assert abs(noise.mean()) < 0.003


def test_shot_noise_has_the_variance_of_its_counts():
    found = shot_noise(GREY, (25,), draws())
    assert found.mean() == pytest.approx(0.5, abs=0.003)
    assert found.var() == pytest.approx(0.5 / 25, rel=0.05)
    assert torch.equal(shot_noise(torch.zeros_like(GREY), (25,), draws()), torch.zeros_like(GREY))


def test_impulse_noise_is_black_and_white():
    found = impulse_noise(GREY, (0.1,), draws())
    for value in (0, 1):
        assert (found == value).float().mean() == pytest.approx(0.05, abs=0.005)
    assert ((found == 0.5) | (found == 0) | (found == 1)).all()


def test_speckle_noise_grows_with_the_value():
    half, full = (speckle_noise(image, (0.2,), draws()) - image for image in (GREY, 2 * GREY))
    assert torch.allclose(full, 2 * half, atol=1e-6)
    assert full.std() == pytest.approx(0.2, rel=0.02)
