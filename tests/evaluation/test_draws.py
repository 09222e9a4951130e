import torch

from sparsify.evaluation.draws import Draws


def test_an_image_has_the_same_numbers_in_every_batch():
    whole = Draws("fog", 0, 0, 5)
    part = Draws("fog", 0, 3, 2)
    for draw in (lambda d: d.normal(2, 3), lambda d: d.uniform(4)):
        assert torch.equal(draw(whole)[3:], draw(part))


def test_numbers_follow_from_seed_and_key():
    found = [Draws(key, seed, 0, 2).uniform(8) for key, seed in (("fog", 0), ("fog", 1), ("snow", 0))]
    assert all(not torch.equal(found[0], other) for other in found[1:])
    assert not torch.equal(found[0][0], found[0][1])
    assert torch.equal(found[0], Draws("fog", 0, 0, 2).uniform(8))


def test_the_distributions_are_those_that_are_named():
    draws = Draws("x", 0, 0, 4)
    normal, uniform = draws.normal(20_000), draws.uniform(20_000)
    counts = draws.poisson(torch.full((4, 20_000), 6.0))
    # Means and deviations of 80,000 numbers: 0.02 is five deviations or more.
    assert abs(normal.mean()) < 0.02
    assert abs(normal.std() - 1) < 0.02
    assert abs(uniform.mean() - 0.5) < 0.01
    assert 0 <= uniform.min() <= uniform.max() < 1
    assert abs(counts.mean() - 6) < 0.05
    assert abs(counts.var() - 6) < 0.2
