import pytest
import torch
from torch.nn import functional as F

from sparsify.errors import UsageError
from sparsify.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt, named

FAMILIES = {"noise": 4, "blur": 5, "weather": 4, "digital": 5}
GREY = [name for name, corruption in CORRUPTIONS.items() if not corruption.colour]


def pictures(size, channels=3, n=6):
    """Smooth shapes with some edges, as photographs have them, between 0 and 1."""
    generator = torch.Generator().manual_seed(size)
    coarse = torch.rand(n, channels, 6, 6, generator=generator)
    smooth = F.interpolate(coarse, (size, size), mode="bicubic", align_corners=True).clamp(0, 1)
    shapes = F.interpolate(torch.rand(n, 1, 5, 5, generator=generator), (size, size), mode="bicubic")
    edges = shapes > 0.55
    return torch.where(edges, 0.85 * smooth + 0.1, 0.5 * smooth)


def test_there_are_the_families_of_the_paper():
    assert {family: sum(c.family == family for c in CORRUPTIONS.values()) for family in FAMILIES} == FAMILIES


@pytest.mark.parametrize("size", [8, 32, 56, 224])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severities_are_worse_and_worse_and_images_stay_images(name, size):
    channels = 3 if size != 8 or CORRUPTIONS[name].colour else 1
    images = pictures(size, channels, n=2 if size == 224 else 12)
    far = []
    for severity in (0, *SEVERITIES):
        found = corrupt(images, name, severity)
        assert (found.shape, found.dtype) == (images.shape, images.dtype)
        assert found.isfinite().all()
        assert 0 <= found.min() <= found.max() <= 1
        far.append(float((found - images).abs().mean()))
    assert far[0] == 0
    assert far == sorted(far)
    assert far[1] > 0.001
    assert far[5] > 1.2 * far[1]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_seed_gives_the_same_bits_in_any_batch(name):
    images = pictures(16)
    whole = corrupt(images, name, 3, seed=5)
    assert torch.equal(whole, corrupt(images, name, 3, seed=5))
    # Batched convolutions may add in another order, which is rounding.
    parts = torch.cat([corrupt(images[:2], name, 3, seed=5), corrupt(images[2:], name, 3, seed=5, first=2)])
    assert torch.allclose(whole, parts, atol=1e-5)


@pytest.mark.parametrize("name", ["gaussian-noise", "motion-blur", "glass-blur", "fog", "frost", "snow", "elastic"])
def test_another_seed_gives_others(name):
    images = pictures(16)
    assert not torch.allclose(corrupt(images, name, 3, seed=0), corrupt(images, name, 3, seed=1), atol=1e-3)


def test_the_caller_keeps_the_global_generator_and_the_images():
    images, state = pictures(8), torch.get_rng_state()
    before = images.clone()
    for name in CORRUPTIONS:
        corrupt(images, name, 5)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert corrupt(images, "fog", 0).data_ptr() != images.data_ptr()


def test_levels_go_from_one_table_to_the_other():
    blur, noise = CORRUPTIONS["gaussian-blur"], CORRUPTIONS["gaussian-noise"]
    assert blur.level(32, 1) == blur.level(8, 1) == (0.4,)
    assert blur.level(224, 1) == pytest.approx((1.0,))
    assert blur.level(448, 1) == pytest.approx((2.0,))  # a length grows with the image
    assert noise.level(448, 1) == noise.level(224, 1) == pytest.approx((0.08,))  # a share does not
    middle = round((32 * 224) ** 0.5)
    assert noise.level(middle, 5)[0] == pytest.approx((0.10 + 0.38) / 2, rel=0.01)
    assert CORRUPTIONS["motion-blur"].level(16, 1) == pytest.approx((1.0, 0.5))


def test_names():
    assert named("all") == list(CORRUPTIONS)
    assert named("none") == []
    assert named("fog, gaussian_noise,fog") == ["fog", "gaussian-noise"]
    with pytest.raises(UsageError, match=r"no corruption 'fogg'.*fog.*There are: all, none, gaussian-noise"):
        named("fogg")


def test_what_does_not_fit_is_refused():
    images = pictures(8)
    with pytest.raises(UsageError, match="from 0 to 5, not 6"):
        corrupt(images, "fog", 6)
    with pytest.raises(UsageError, match="needs colours"):
        corrupt(images[:, :1], "saturate", 1)
    for wrong in (images[0], images.byte(), images[:, :2]):
        with pytest.raises(UsageError, match="Images are floats"):
            corrupt(wrong, "fog", 1)
    assert corrupt(images[:0], "fog", 3).shape == (0, 3, 8, 8)


def test_half_precision_stays_half():
    images = pictures(8).half()
    for name in GREY:
        assert corrupt(images, name, 2).dtype == torch.float16
