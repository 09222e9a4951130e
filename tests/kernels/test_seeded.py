"""Values that are computed again from a seed."""

import math

import pytest
import torch

from sparsify.kernels import seeded as module
from sparsify.kernels.seeded import seeded

SEED = torch.tensor(7)


def mixed(value):
    """The hash, written with numbers that have no end."""
    for shift, factor in ((16, 0x21F0AAAD), (15, 0xD35A2D97), (15, 1)):
        value = (value ^ (value >> shift)) * factor % 2**32
    return value


def word(seed, stream, place):
    first = mixed(seed ^ mixed(stream * 0x9E3779B9 % 2**32))
    second = mixed((first + 0x9E3779B9) % 2**32)
    return mixed((mixed(place ^ first) + second) % 2**32)


def test_values_are_those_of_the_formula():
    words = [word(7, 3, place) for place in range(24)]
    uniform = [math.ldexp(value >> 8, -23) - 1 for value in words]
    assert seeded(SEED, 3, [24], "uniform", 0.5).tolist() == [0.5 * value for value in uniform]
    assert seeded(SEED, 3, [4, 6], "sign", 0.25).flatten().tolist() == [-0.25 if v >> 31 else 0.25 for v in words]
    sums = [sum((v >> 16) + (v & 0xFFFF) for v in words[4 * i : 4 * i + 4]) for i in range(6)]
    deviation = math.sqrt(8 * (65536**2 - 1) / 12)
    expected = [torch.tensor(float(s - 262140)) * torch.tensor(2.0 / deviation) for s in sums]
    assert seeded(SEED, 3, [6], "normal", 2.0).tolist() == [float(value) for value in expected]


def test_bits_are_fixed_for_ever():
    """These numbers are in the files of users: they may never change."""
    assert seeded(SEED, 3, [3], "uniform", 0.5).tolist() == PINNED["uniform"]
    assert seeded(SEED, 3, [3], "normal", 0.5).tolist() == PINNED["normal"]
    assert seeded(SEED, 3, [3], "sign", 0.5).tolist() == PINNED["sign"]


PINNED = {
    "uniform": [0.2820252776145935, -0.10552948713302612, 0.08912926912307739],
    "normal": [-0.05260707065463066, 0.13679707050323486, -0.8519728779792786],
    "sign": [-0.5, 0.5, -0.5],
}  # fmt: skip


@pytest.mark.parametrize("distribution", ["uniform", "normal", "sign"])
def test_accelerators_compute_the_same_bits(distribution):
    ours = seeded(SEED, 3, [70_001], distribution, 0.3)
    theirs = module._on_device(70_001, module._keys(7, 3), distribution, 0.3, torch.device("cpu"))
    assert torch.equal(ours, theirs)


def test_distributions_have_the_moments_that_they_promise():
    many = 1 << 18
    uniform, normal = (seeded(SEED, 0, [many], kind) for kind in ("uniform", "normal"))
    assert abs(float(uniform.mean())) < 4 / math.sqrt(3 * many)
    assert abs(float(uniform.std()) - 1 / math.sqrt(3)) < 0.003
    assert abs(float(normal.mean())) < 4 / math.sqrt(many)
    assert abs(float(normal.std()) - 1) < 0.006
    assert float(normal.abs().max()) < 4.9
    assert abs(float((normal.abs() < 1).float().mean()) - 0.6827) < 0.02


def test_seeds_streams_and_neighbours_are_unrelated():
    one = seeded(SEED, 3, [1 << 16])
    others = [seeded(SEED, 4, [1 << 16]), seeded(torch.tensor(8), 3, [1 << 16]), one.roll(1), one.roll(256)]
    for other in others:
        assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 5 / 256


def test_only_the_lowest_bits_of_the_seed_count():
    assert torch.equal(seeded(torch.tensor(-1), 0, [5]), seeded(torch.tensor(2**32 - 1), 0, [5]))


def test_other_types_are_rounded_from_float32():
    exact = seeded(SEED, 3, [100], "normal", 0.1)
    assert torch.equal(seeded(SEED, 3, [100], "normal", 0.1, torch.bfloat16), exact.bfloat16())
    assert seeded(SEED, 3, [0]).shape == (0,)


def test_unknown_distributions_and_too_many_values_are_refused():
    with pytest.raises(ValueError, match="uniform, normal, sign, not 3 cauchy"):
        seeded(SEED, 0, [3], "cauchy")
    with pytest.raises(ValueError, match="at most"):
        seeded(SEED, 0, [1 << 17, 1 << 14], "normal")


def test_torch_accepts_the_operator():
    torch.library.opcheck(torch.ops.sparsify.seeded.default, (SEED, 3, [4, 5], "normal", 0.1))
