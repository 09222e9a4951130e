"""Exchanges: exact numbers, ties, and by hand."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsify.pruning.exchange import exchanged, lowest_of


def test_the_lowest_of_some_are_marked_and_the_later_of_equal_ones():
    scores = torch.tensor([3.0, 1.0, 1.0, 0.0, 1.0])
    among = torch.tensor([True, True, True, False, True])
    assert lowest_of(scores, among, 2).tolist() == [False, False, True, False, True]
    assert not lowest_of(scores, among, 0).any()
    assert lowest_of(scores, among, 4).tolist() == among.tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.floats(0, 1), st.floats(0, 1), st.integers(0, 5))
def test_an_exchange_keeps_the_number_and_moves_as_many_as_it_can(size, density, share, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(size, generator=generator) < density
    stay, grow = (torch.randn(size, generator=generator) for _ in range(2))
    count = int(share * int(mask.sum()))
    found = exchanged(mask, count, stay, grow)
    assert int(found.sum()) == int(mask.sum())
    lowest = lowest_of(stay, mask, count)
    assert not bool((mask & ~lowest & ~found).any())  # only the lowest go; of these some may come back
    candidates = ~mask | lowest
    assert torch.equal(found & candidates, lowest_of(-grow, candidates, count))


def test_an_exchange_by_hand():
    mask = torch.tensor([True, True, True, False, False, False])
    stay = torch.tensor([3.0, 1.0, 2.0, 0.0, 0.0, 0.0])
    grow = torch.tensor([0.0, 0.1, 9.0, 0.5, 0.7, 0.2])
    assert exchanged(mask, 1, stay, grow).tolist() == [True, False, True, False, True, False]
    grow[1] = 5.0  # what was just dropped may come back
    assert exchanged(mask, 1, stay, grow).tolist() == mask.tolist()
