"""Plots: which panels there are, what they show, and that they are pictures."""

import dataclasses
import functools

import pytest
from helpers.histories import entry, labels, lines, lottery, panels, sparse

from sparsify.errors import InputError
from sparsify.report.history import History
from sparsify.report.plots import plot


@pytest.fixture
def drawn(tmp_path):
    return functools.partial(panels, tmp_path)


def test_scores_by_density_with_controls_and_deviation(drawn):
    axis = drawn(lottery("a", 0.02), lottery("b", -0.02))["Score by what is left (mean of 2 runs)"]
    assert sorted(labels(axis)) == ["dense", "random", "ticket"]
    ticket = next(c for c in axis.containers if c.get_label() == "ticket")
    assert ticket.lines[0].get_xydata().tolist() == [[50.0, pytest.approx(0.9)], [25.0, pytest.approx(0.8)]]
    (bars,) = ticket.lines[2]
    assert bars.get_segments()[0][:, 1].tolist() == pytest.approx([0.9 - 0.0282843, 0.9 + 0.0282843])
    assert axis.get_xlim()[0] > axis.get_xlim()[1]  # from dense to sparse


def test_learning_curves_have_the_controls_of_the_last_round(drawn):
    axis = drawn(lottery("a"))["Learning curves"]
    assert labels(axis) == ["dense", "round 1: 50% left", "round 2: 25% left", "random, round 2"]
    assert lines(axis)["round 1: 50% left"] == [[1, 0.1], [2, 0.2], [3, pytest.approx(0.3)]]


def test_of_many_rounds_some_are_named(drawn):
    points = [{"step": step, "score": 0.1, "validation_loss": 1.0} for step in (1, 2)]
    rounds = [entry(number, 0.9, 0.8**number) for number in range(21)]
    many = History("a", "lth", {}, {f"round-{number}": points for number in range(21)}, {}, rounds)
    axis = drawn(many)["Learning curves"]
    assert [label.partition(":")[0] for label in labels(axis)] == ["dense", *(f"round {n}" for n in (4, 8, 12, 16, 20))]
    assert len(axis.get_lines()) == 21


def test_several_methods_have_lines_of_their_own(drawn):
    other = dataclasses.replace(lottery("b-0", 0.1), method="lth:rewind=2it")
    axes = drawn(lottery("a-0"), lottery("a-1"), other)
    assert labels(axes["Score by what is left"]) == [
        "a: dense",
        "b-0: dense",
        "a: ticket",
        "a: random",
        "b-0: ticket",
        "b-0: random",
    ]
    curves = lines(axes["Learning curves"])
    assert set(curves) == {"a", "b-0"}
    assert curves["b-0"] == [[1, 0.1], [2, 0.2], [3, pytest.approx(0.3)]]  # of the last ticket alone
    left, right = (
        [c.lines[0].get_color() for c in axes["Score by what is left"].containers],
        [line.get_color() for line in axes["Learning curves"].get_lines()],
    )
    assert left == [right[0]] * 2 + [right[1]] * 2  # a method has one colour
    assert len({c.lines[0].get_marker() for c in axes["Score by what is left"].containers}) == 2  # what it is, a mark


def test_controls_can_be_told_apart(drawn):
    found = lottery("a")
    controls = [entry(1, 0.5, 0.5, control) for control in ("reinit", "random", "shuffle", "invert", "small-dense")]
    axis = drawn(dataclasses.replace(found, controls=controls))["Score by what is left"]
    looks = [(c.lines[0].get_marker(), str(c.lines[0]._dash_pattern)) for c in axis.containers]
    assert len({mark for mark, _ in looks}) == len({dashes for _, dashes in looks}) == 6


def test_bars_are_the_interval_of_one_run_or_the_deviation_over_some(drawn):
    def bars(axis):
        return next(c for c in axis.containers if c.get_label().endswith("ticket")).lines[2][0].get_segments()[0][:, 1]

    one = drawn(lottery("a"))["Score by what is left"]
    assert bars(one).tolist() == pytest.approx([0.8, 0.95])
    assert one.get_xlabel() == "weights left, % (bars: 95% interval of a single run's score)"
    two = drawn(lottery("a", 0.02), lottery("b", -0.02))["Score by what is left (mean of 2 runs)"]
    assert two.get_xlabel() == "weights left, % (bars: deviation over runs)"


def test_a_ticket_that_is_gone_on_with_is_the_start(drawn):
    found = lottery("a")
    rounds = [{**found.rounds[0], "network": "start", "density": 0.75}, *found.rounds[1:]]
    axes = drawn(dataclasses.replace(found, rounds=rounds))
    assert "start" in labels(axes["Score by what is left"])
    assert labels(axes["Learning curves"])[0] == "start"


def test_a_training_is_called_as_the_user_wrote_it(drawn):
    steps = [{"step": step, "loss": 1.0} for step in (1, 2)]
    axes = drawn(History("w", "fine-tune:steps=2it", {"fine-tune": steps}))
    assert labels(axes["Learning curves"]) == ["fine-tune"]
    axes = drawn(sparse("one", "dst:steps=20it,method=set"))
    assert labels(axes["Learning curves"]) == ["dst:set"]


def test_it_is_a_picture(tmp_path):
    plot([lottery("a")], tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(InputError, match="nothing to draw"):
        plot([History("a", "lth")], tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []
