import pytest
import torch
from helpers.stats import channel_stats

from sparsify.criteria.filter_sketch import FilterSketch
from sparsify.errors import PassError, UsageError
from sparsify.pruning.choice import made


def score(rows, **options):
    return FilterSketch(**options).channel(channel_stats(len(rows), made=[rows]))


def test_a_full_sketch_holds_all_energy():
    rows = torch.randn(6, 4, dtype=torch.float64)
    torch.testing.assert_close(score(rows, share=1.0), rows.square().sum(1))


def test_energy_outside_of_the_kept_directions_does_not_count():
    rows = torch.tensor([[4.0, 0.0], [0.0, 1.0], [3.0, 0.5]])
    first = torch.linalg.svd(rows.double())[2][0]
    torch.testing.assert_close(score(rows, share=0.5), (rows.double() @ first).square(), atol=0.1, rtol=0)
    assert score(rows, share=0.5).argmin() == 1


def test_filters_off_the_common_subspace_go_first():
    torch.manual_seed(0)
    common = torch.randn(20, 3) @ torch.randn(3, 30) * 3
    odd = torch.randn(4, 30)
    scores = score(torch.cat([common, odd]), share=0.2)
    assert set(scores.topk(4, largest=False).indices.tolist()) == {20, 21, 22, 23}


def test_dead_filters_score_nothing():
    assert score(torch.zeros(3, 2)).tolist() == [0.0, 0.0, 0.0]
    assert score(torch.tensor([[1.0, 2.0], [0.0, 0.0]]))[1] == 0


def test_shares_and_groups_without_filters_are_refused():
    with pytest.raises(UsageError, match=r"filter-sketch: share=0\.0 is not a fraction above 0"):
        made("filter-sketch/share=0")
    with pytest.raises(PassError, match="filter-sketch looks at the filters"):
        FilterSketch().channel(channel_stats(3))
