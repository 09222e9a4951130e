import pytest
import torch
from helpers.stats import channel_stats

from sparsify.criteria.filter_norm import FilterNorm
from sparsify.errors import PassError, UsageError
from sparsify.pruning.choice import made

ROWS = torch.tensor([[3.0, -4.0], [0.0, 1.0], [6.0, 2.0]])


def test_one_layer_ranks_as_its_norms():
    l1, l2 = (FilterNorm(p=p).channel(channel_stats(3, made=[ROWS])) for p in (1, 2))
    torch.testing.assert_close(l1, torch.tensor([7.0, 1.0, 8.0]).double() / (16 / 3))
    norms = torch.tensor([25.0, 1.0, 40.0]).double().sqrt()
    torch.testing.assert_close(l2, norms / norms.mean())


def test_a_layer_with_large_weights_does_not_outvote_the_others():
    loud, quiet = torch.tensor([[100.0], [90.0]]), torch.tensor([[0.1], [0.3]])
    first, second = FilterNorm().channel(channel_stats(2, made=[loud, quiet]))
    assert first < second
    assert first == pytest.approx((100 / 95 + 0.1 / 0.2) / 2)


def test_a_dead_filter_is_last_and_a_dead_layer_harmless():
    scores = FilterNorm().channel(channel_stats(2, made=[torch.tensor([[0.0], [1.0]]), torch.zeros(2, 4)]))
    assert scores.tolist() == [0.0, 1.0]


def test_readers_and_scales_do_not_count():
    assert torch.equal(
        FilterNorm().channel(channel_stats(3, made=[ROWS], used=[ROWS * 9], scales=[ROWS])),
        FilterNorm().channel(channel_stats(3, made=[ROWS])),
    )


def test_other_norms_are_refused():
    with pytest.raises(UsageError, match=r"filter-norm: p=3 is neither 1 nor 2\."):
        made("filter-norm/p=3")
    assert made("filter-norm/p=2") == FilterNorm(p=2)


def test_channels_that_no_layer_makes_are_refused():
    with pytest.raises(PassError, match=r"filter-norm looks at the filters.*Protect it"):
        FilterNorm().channel(channel_stats(3))
