"""Panels of searches and of tickets beside their controls."""

import functools

import pytest
from helpers.histories import entry, labels, lines, panels

from sparsify.report.history import History


@pytest.fixture
def drawn(tmp_path):
    return functools.partial(panels, tmp_path)


def test_distances_of_masks_with_the_limit_and_the_ticket(drawn):
    masks = [{"step": 8, "largest": None}, {"step": 16, "largest": 0.4}, {"step": 24, "largest": 0.1}]
    axis = drawn(History("a", "early-bird:distance=0.2", masks=masks))["When masks agree"]
    assert labels(axis) == ["a", "ticket at step 24", "below 0.2 masks agree"]
    assert lines(axis)["a"] == [[16, 0.4], [24, 0.1]]
    assert lines(axis)["below 0.2 masks agree"][0][1] == 0.2
    axis = drawn(History("a", "early-bird", masks=masks[:2]))["When masks agree"]
    assert labels(axis) == ["a", "below 0.1 masks agree"]


def test_scores_by_dimension_with_what_is_enough(drawn):
    tried = [{"dimension": 10, "score": 0.3}, {"dimension": 20, "score": 0.85}, {"dimension": 40, "score": 0.9}]
    goal = {"score": 0.81, "baseline": 0.9, "start": 0.1}
    axis = drawn(History("a", "intrinsic", dimensions=tried, goal=goal))["Score by dimension"]
    assert lines(axis)["a"] == [[10, 0.3], [20, 0.85], [40, 0.9]]
    assert {"enough", "all parameters", "untrained", "intrinsic dimension 20"} <= set(labels(axis))
    assert lines(axis)["enough"][0][1] == 0.81
    assert lines(axis)["intrinsic dimension 20"][0][0] == 20
    assert labels(drawn(History("a", "intrinsic:dimension=10", dimensions=tried[:1]))["Score by dimension"]) == ["a"]


def test_a_ticket_beside_its_controls(drawn):
    controls = [entry(1, 0.8, 0.5, "random"), entry(1, 0.95, 1.0, "dense")]
    one = History("a", "pai", rounds=[entry(1, 0.9, 0.5)], controls=controls)
    axis = drawn(one)["Ticket and controls"]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["dense", "random", "ticket"]
    assert [bar.get_width() for bar in axis.patches] == [0.95, 0.8, 0.9]
    two = History("b", "pai", rounds=[entry(1, 0.7, 0.5)], controls=[])
    widths = [bar.get_width() for bar in drawn(one, two)["Ticket and controls"].patches]
    assert widths == pytest.approx([0.95, 0.8, 0.8])


def test_choices_of_fish_are_one_training(drawn):
    steps = {f"fish {number}": [{"step": 4 * number + step, "loss": 1.0} for step in (1, 2, 3, 4)] for number in (0, 1)}
    axis = drawn(History("a", "freeze:method=fish", steps))["Learning curves"]
    assert labels(axis) == ["fish"]
    assert [x for x, _ in lines(axis)["fish"]] == list(range(1, 9))
