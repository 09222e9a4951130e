"""Codebooks: k-means in one dimension, against a plain one and against all ways to cut sorted values."""

import itertools
import time

import pytest
import torch

from sparsify.coding.codebook import codebook


def random_values(count, seed=0):
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def cost(values, centres, labels):
    return float((centres[labels] - values.double()).square().sum())


def best(values, count):
    """Return the least cost of all ways to cut the sorted values into runs."""
    ordered = values.double().sort().values
    found = []
    for cuts in itertools.combinations(range(1, len(ordered)), count - 1):
        parts = [ordered[a:b] for a, b in itertools.pairwise([0, *cuts, len(ordered)])]
        found.append(float(sum((part - part.mean()).square().sum() for part in parts)))
    return min(found)


def plain(values, count):
    """k-means as everyone writes it: all distances, in every step."""
    values = values.double().flatten()
    centres = torch.linspace(0, 1, count, dtype=torch.float64) * (values.max() - values.min()) + values.min()
    while True:
        labels = (values[:, None] - centres).abs().argmin(1)
        moved = torch.stack([values[labels == i].mean() if (labels == i).any() else c for i, c in enumerate(centres)])
        if torch.equal(moved, centres):
            used = labels.unique()
            return centres[used], torch.searchsorted(used, labels)
        centres = moved


def test_by_hand():
    centres, labels = codebook(torch.tensor([0.0, 10.0, 1.0, 9.0, 11.0]), 2)
    assert centres.tolist() == [0.5, 10.0]
    assert labels.tolist() == [0, 1, 0, 1, 1]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [2, 3, 8, 32])
def test_it_is_what_plain_k_means_gives(seed, count):
    values = random_values(400, seed)
    centres, labels = codebook(values, count)
    expected, expected_labels = plain(values, count)
    torch.testing.assert_close(centres, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(labels, expected_labels)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("count", [2, 3, 4])
def test_it_is_close_to_the_best_of_all_cuts(seed, count):
    values = random_values(13, seed)
    found = cost(values, *codebook(values, count))
    assert best(values, count) <= found * (1 + 1e-9)
    assert found <= 2 * best(values, count) + 1e-12


def test_every_value_is_with_its_nearest_centre_and_every_centre_the_mean_of_its_values():
    values = random_values(5000).view(50, 100)
    centres, labels = codebook(values, 16)
    assert labels.shape == values.shape
    assert (centres.diff() > 0).all()
    assert torch.equal((values.double()[..., None] - centres).abs().argmin(-1), labels)
    for number, centre in enumerate(centres):
        assert values[labels == number].double().mean() == pytest.approx(float(centre), rel=1e-9)


@pytest.mark.parametrize("count", [3, 4, 100])
def test_few_different_values_stand_for_themselves(count):
    values = torch.tensor([[0.1, -0.5], [0.1, 0.3], [-0.5, 0.1]])
    centres, labels = codebook(values, count)
    assert torch.equal(centres.float(), torch.tensor([-0.5, 0.1, 0.3]))
    assert torch.equal(centres[labels].float(), values)


def test_what_is_shared_already_stays():
    values = random_values(1000)
    centres, labels = codebook(values, 8)
    shared = centres[labels].float()
    again, same = codebook(shared, 8)
    assert torch.equal(again[same].float(), shared)


def test_centres_that_stand_for_nothing_are_left_out():
    values = torch.cat([random_values(50) * 0.01, torch.tensor([100.0])])
    centres, labels = codebook(values, 10)
    assert len(centres) < 10
    assert labels.unique().tolist() == list(range(len(centres)))


def test_one_centre_is_the_mean():
    values = random_values(77)
    centres, labels = codebook(values, 1)
    assert centres.tolist() == pytest.approx([float(values.double().mean())])
    assert not labels.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types(dtype):
    values = random_values(500).to(dtype)
    centres, labels = codebook(values, 8)
    assert centres.dtype == torch.float64
    assert cost(values, centres, labels) < 0.1 * float(values.double().square().sum())


def test_a_million_values_take_a_moment():
    values = random_values(1_000_000)
    start = time.perf_counter()
    centres, _ = codebook(values, 32)
    assert time.perf_counter() - start < 20  # a fifth of a second alone; all distances would take minutes
    assert len(centres) == 32
