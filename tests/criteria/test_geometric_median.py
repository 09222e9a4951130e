import pytest
import torch
from helpers.stats import channel_stats

from sparsify.criteria import geometric_median
from sparsify.criteria.geometric_median import GeometricMedian
from sparsify.errors import PassError


def test_formula():
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    expected = torch.tensor([5 + 1, 5 + 18**0.5, 1 + 18**0.5], dtype=torch.float64)
    torch.testing.assert_close(GeometricMedian().channel(channel_stats(3, made=[rows])), expected)


def test_the_most_replaceable_filter_is_last_even_if_it_is_large():
    around = torch.tensor([[10.0, 10.0], [11.0, 10.0], [9.0, 10.0], [10.0, 11.0], [10.0, 9.0]])
    rows = torch.cat([around, torch.zeros(1, 2)])
    scores = GeometricMedian().channel(channel_stats(6, made=[rows]))
    assert int(scores.argmin()) == 0
    assert int(scores.argmax()) == 5


def test_several_layers_make_one_long_filter():
    one, other = torch.randn(7, 3), torch.randn(7, 5)
    both = GeometricMedian().channel(channel_stats(7, made=[one, other]))
    assert torch.equal(both, GeometricMedian().channel(channel_stats(7, made=[torch.cat([one, other], 1)])))


def test_distances_in_parts_are_the_same(monkeypatch):
    rows = torch.randn(9, 40)
    whole = GeometricMedian().channel(channel_stats(9, made=[rows]))
    monkeypatch.setattr(geometric_median, "_PAIRS", 20)
    torch.testing.assert_close(GeometricMedian().channel(channel_stats(9, made=[rows])), whole)


def test_duplicates_in_a_wide_layer_are_as_far_from_all_others():
    rows = torch.eye(30, 400)  # as far from each other as they can be
    rows[3] = rows[17]
    scores = GeometricMedian().channel(channel_stats(30, made=[rows]))
    assert scores[3] == pytest.approx(float(scores[17]), rel=1e-9)
    assert set(scores.topk(2, largest=False).indices.tolist()) == {3, 17}


def test_channels_that_no_layer_makes_are_refused():
    with pytest.raises(PassError, match="geometric-median looks at the filters"):
        GeometricMedian().channel(channel_stats(3))
