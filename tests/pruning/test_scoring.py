"""Scores of groups, worked out by hand."""

from dataclasses import dataclass

import pytest
import torch
from helpers.stats import weight_stats
from torch import nn

import sparsify as sp
from sparsify import registry
from sparsify.axes import axes
from sparsify.criteria import Criterion
from sparsify.criteria.magnitude import Magnitude
from sparsify.errors import PassError
from sparsify.groups import groups_of
from sparsify.observation.calibration import Calibration
from sparsify.pruning import scoring
from sparsify.pruning.choice import made
from sparsify.pruning.scoring import group_scores


@dataclass(frozen=True)
class Additive(Criterion):
    additive = True

    def weight(self, stats):
        return stats.weight.detach().abs()


class Net(nn.Sequential):
    """Two channels of magnitude 1 and 3 in the first layer, 10 and 20 in the second."""

    def __init__(self):
        super().__init__(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 4, bias=False))
        with torch.no_grad():
            self[0].weight.copy_(torch.tensor([[1.0, -1, 1], [3, 3, -3]]))
            self[0].bias.copy_(torch.tensor([-0.5, 0.25]))
            self[2].weight.copy_(torch.tensor([[10.0, -20]]).expand(4, 2))


def scores(criterion, keep=None, model=None):
    found = axes(sp.capture(model or Net(), (torch.randn(2, 3),)))
    groups = [group for group in groups_of(found) if not group.frozen]
    keep = {groups[0].axis: torch.tensor(keep)} if keep else {}
    return group_scores(found, groups, keep, criterion, Calibration(None))[groups[0].axis].tolist()


def test_an_index_has_the_sum_of_all_that_goes_with_it():
    assert scores(Additive()) == [3 + 0.5 + 40, 9 + 0.25 + 80]


def test_other_scores_are_relative_to_the_mean_of_the_group():
    mean = (43.5 + 89.25) / 2
    assert scores(Magnitude()) == pytest.approx([43.5 / mean, 89.25 / mean])


def test_what_is_gone_has_no_score():
    assert scores(Additive(), keep=[False, True]) == [-float("inf"), 89.25]


def test_a_score_that_is_not_finite_is_refused():
    @dataclass(frozen=True)
    class Raw(Criterion):
        def weight(self, stats):
            return stats.weight.detach().log()

    with pytest.raises(PassError, match="score of 0 is not finite"):
        scores(Raw())


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(3, 20), nn.ReLU(), nn.Linear(20, 7)),
        nn.Sequential(nn.Unflatten(1, (3, 1, 1)), nn.Conv2d(3, 9, 1), nn.BatchNorm2d(9), nn.Flatten(), nn.Linear(9, 7)),
    ],
)
def test_scores_in_pieces_are_the_same(model, monkeypatch):
    whole = scores(Magnitude(), model=model)
    monkeypatch.setattr(scoring, "_PIECE", 10)
    assert scores(Magnitude(), model=model) == pytest.approx(whole)


ELEMENTWISE = [found for name in registry.entries("sparsify.criteria") if (found := made(name)).elementwise]


@pytest.mark.parametrize("criterion", ELEMENTWISE)
def test_an_elementwise_criterion_scores_rows_alone_as_it_scores_them_together(criterion):
    generator = torch.Generator().manual_seed(0)
    found = {need: torch.randn(6, 4, generator=generator) for need in criterion.needs}
    stats = weight_stats(torch.randn(6, 4, generator=generator), **found)
    apart = torch.cat([criterion.weight(part) for part in stats.rows(4)])
    assert torch.equal(apart, criterion.weight(stats))
