import pytest
import torch
from torch.nn import functional as F

from sparsify.evaluation.blurs import defocus_blur, gaussian_blur, glass_blur, motion_blur, zoom_blur
from sparsify.evaluation.draws import Draws
from sparsify.evaluation.warping import blurred


def point(side=21):
    image = torch.zeros(1, 1, side, side)
    image[..., side // 2, side // 2] = 1
    return image


def draws(n=1):
    return Draws("blur", 0, 0, n)


def test_a_point_becomes_what_the_blur_says():
    assert torch.equal(gaussian_blur(point(), (1.5,), draws()), blurred(point(), 1.5))
    disk = defocus_blur(point(), (4.0,), draws())[0, 0]
    distance = torch.cartesian_prod(torch.arange(-10, 11), torch.arange(-10, 11)).float().norm(dim=1).view(21, 21)
    inside = disk[distance < 3]
    assert torch.allclose(inside, inside[0].expand_as(inside))  # even
    assert inside[0] == pytest.approx(1 / (torch.pi * 16), rel=0.03)  # one over the area of the disk
    assert (disk[distance > 5] == 0).all()


@pytest.mark.parametrize("blur", [gaussian_blur, defocus_blur, motion_blur, zoom_blur, glass_blur])
def test_an_even_image_stays_as_it_is(blur):
    level = {motion_blur: (4, 2.0), glass_blur: (0.7, 2.0), zoom_blur: (1.2,)}.get(blur, (2.0,))
    image = torch.full((2, 3, 12, 12), 0.3)
    assert torch.allclose(blur(image, level, draws(2)), image, atol=1e-5)


def test_motion_goes_along_a_line_of_its_length():
    image = point(41)
    found = motion_blur(image, (10, 100.0), draws())[0, 0]
    rows, columns = (found > 1e-3).nonzero().T
    length = ((rows - 20).square() + (columns - 20).square()).float().sqrt()
    assert length.max() == pytest.approx(10, abs=1.5)
    centre = torch.stack([rows - 20, columns - 20]).float()
    left = torch.linalg.svdvals(centre)
    assert left[1] / left[0] < 0.15  # a line, a pixel wide
    assert found.sum() == pytest.approx(1, abs=0.01)
    assert found.max() < 0.2


def test_images_move_in_directions_of_their_own():
    found = motion_blur(point().expand(2, -1, -1, -1), (8, 4.0), draws(2))
    assert not torch.allclose(found[0], found[1], atol=0.01)


def test_zooming_blurs_the_edge_and_not_the_middle():
    stripes = (torch.arange(41) % 2).float().expand(1, 1, 41, 41)
    found = (zoom_blur(stripes, (1.2,), draws()) - stripes).abs()
    assert found[..., 20].max() < 0.05
    assert found[..., 0].mean() > 0.3


def test_glass_takes_pixels_from_near():
    image = torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    found = glass_blur(image, (0.05, 1.0), draws())  # a blur of nothing
    near = F.unfold(F.pad(image, [1] * 4, mode="replicate"), 3).view(9, 20, 20)
    assert (near - found[0]).abs().min(0).values.max() < 1e-5
    assert 0.5 < (found != image).float().mean() < 1
    assert torch.allclose(glass_blur(image, (0.05, 0.4), draws()), image, atol=1e-5)
