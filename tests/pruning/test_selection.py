"""Selection: exact counts, deterministic ties, goals within limits."""

from types import SimpleNamespace

import pytest
import torch

from sparsify.axes import Axis
from sparsify.errors import PassError
from sparsify.pruning.floors import Floor
from sparsify.pruning.selection import Goal, Selection

A, B = Axis(8), Axis(12)
FLOORS = {A: Floor(8, 1, 1), B: Floor(12, 1, 1)}
FLAT = {A: torch.zeros(8), B: torch.zeros(12)}
# every index of A costs 10 parameters, every index of B 1, and each pair one multiply-accumulate
COUNTS = SimpleNamespace(
    parameters=lambda sizes: 10 * sizes.get(A, 8) + sizes.get(B, 12),
    macs=lambda sizes: sizes.get(A, 8) * sizes.get(B, 12),
)


def sizes(goal, scope="uniform", scores=FLAT, floors=FLOORS, share=1.0):
    keep = Selection(floors, COUNTS, goal, scope).choose(scores, share)
    return {axis: int(keep[axis].sum()) if axis in keep else floor.size for axis, floor in floors.items()}


@pytest.mark.parametrize(("sparsity", "expected"), [(0, (8, 12)), (0.25, (6, 9)), (0.5, (4, 6)), (0.75, (2, 3))])
def test_uniform_sparsity(sparsity, expected):
    assert tuple(sizes(Goal("sparsity", sparsity)).values()) == expected


@pytest.mark.parametrize("sparsity", [i / 20 for i in range(19)])
@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_the_total_is_exact(sparsity, scope):
    assert sum(sizes(Goal("sparsity", sparsity), scope).values()) == round(20 * (1 - sparsity))


def test_part_of_the_way():
    assert sum(sizes(Goal("sparsity", 0.6), share=1 / 3).values()) == 16
    assert sum(sizes(Goal("sparsity", 0.6), share=2 / 3).values()) == 12


def test_the_lowest_scores_go_and_ties_go_to_the_later_index():
    scores = {A: torch.tensor([3.0, 1, 2, 1, 5, 1, 1, 9]), B: torch.full((12,), 100.0)}
    keep = Selection(FLOORS, COUNTS, Goal("sparsity", 0.15), "global").choose(scores, 1)
    assert keep[A].tolist() == [True, True, True, False, True, False, False, True]
    assert B not in keep


def test_what_is_gone_stays_gone():
    scores = {A: torch.tensor([3.0, -torch.inf, 2, 1, 5, 4, 6, 9]), B: torch.ones(12)}
    keep = Selection(FLOORS, COUNTS, Goal("sparsity", 0.5), "uniform").choose(scores, 1)
    assert not keep[A][1]


def test_cheap_steps_fill_the_gap_to_a_goal():
    scores = {A: torch.zeros(8), B: torch.ones(12)}
    found = sizes(Goal("params", 0.5), "global", scores)
    assert abs(COUNTS.parameters(found) - 46) <= 1


def test_macs_are_a_product():
    found = sizes(Goal("macs", 0.25))
    assert found[A] * found[B] == 24


def test_limits_are_kept_or_refused():
    floors = {A: Floor(8, 4, 4), B: Floor(12, 4, 4)}
    assert sizes(Goal("sparsity", 0.6), floors=floors) == {A: 4, B: 4}
    with pytest.raises(PassError, match=r"sparsity=0.7 cannot be reached: 0.600 is the most"):
        sizes(Goal("sparsity", 0.7), floors=floors)
    with pytest.raises(PassError, match=r"macs=0.1 cannot be reached: 0.167 is the least"):
        sizes(Goal("macs", 0.1), floors=floors)


def test_record():
    selection = Selection(FLOORS, COUNTS, Goal("params", 0.5), "uniform")
    selection.choose(FLAT, 1)
    assert selection.record()["asked"] == {"params": 0.5}
    assert selection.record()["reached"] == pytest.approx(0.5, abs=0.01)
