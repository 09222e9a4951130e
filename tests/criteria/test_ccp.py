import itertools

import pytest
import torch
from helpers.gates import TASK, hidden
from helpers.stats import channel_stats, measure

from sparsify.criteria.ccp import Ccp


def stats(linear, pairs):
    return channel_stats(len(linear), gate_gradient=linear, gate_second_moment=pairs)


def change(linear, pairs, gone):
    """The estimated change of the loss without some channels."""
    x = torch.zeros(len(linear))
    x[list(gone)] = 1
    return float(-x @ linear + x @ pairs @ x / 2)


def test_without_pairs_those_go_whose_removal_lowers_the_loss_most():
    scores = Ccp().channel(stats([0.5, -1.0, 2.0, 0.1], torch.zeros(4, 4)))
    assert scores.argsort().tolist() == [2, 0, 3, 1]


@pytest.mark.parametrize("seed", range(5))
def test_half_of_the_channels_chosen_by_it_are_about_the_best_half(seed):
    generator = torch.Generator().manual_seed(seed)
    samples = torch.randn(12, 8, generator=generator)
    pairs, linear = samples.T @ samples / 12, 0.3 * torch.randn(8, generator=generator)
    gone = Ccp().channel(stats(linear, pairs)).argsort()[:4].tolist()
    every = sorted(change(linear, pairs, some) for some in itertools.combinations(range(8), 4))
    assert every.index(change(linear, pairs, sorted(gone))) < 0.1 * len(every)


def test_two_channels_that_do_the_same_do_not_both_go():
    """Each alone is the cheapest; without both, what they do is gone."""
    directions = torch.tensor([[1.0, 0, 0], [0.95, 0, 0], [0, 1.05, 0], [0, 0, 1.1]])
    pairs = directions @ directions.T
    gone = Ccp().channel(stats(torch.zeros(4), pairs)).argsort()[:2].tolist()
    single = pairs.diagonal().argsort()[:2].tolist()
    assert sorted(single) == [0, 1]
    assert sorted(gone) != [0, 1]
    assert change(torch.zeros(4), pairs, gone) < change(torch.zeros(4), pairs, single)


def test_scores_of_a_network_and_of_a_group_of_one():
    model, program, signal = hidden()
    with torch.no_grad():
        model.b.weight[:, 2] = 0
    found = measure(program, Ccp.needs, TASK, signals=[signal]).found
    scores = Ccp().channel(stats(*(found[need][signal.key] for need in Ccp.needs)))
    assert bool(torch.isfinite(scores).all())
    assert float(scores.max() - scores.min()) > 0
    assert Ccp().channel(stats([1.0], [[1.0]])).shape == (1,)
    assert bool(torch.isfinite(Ccp().channel(stats(torch.zeros(4), torch.zeros(4, 4)))).all())
