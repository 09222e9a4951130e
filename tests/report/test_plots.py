"""Plots: which panels there are, what they show, and that they are pictures."""

import dataclasses

import pytest
from matplotlib.figure import Figure

from sparsify.errors import InputError
from sparsify.report.history import History
from sparsify.report.plots import plot


def entry(number, score, density, control=None):
    known = {"round": number, "score": score, "density": density, "nonzero_share": density}
    return known if control is None else {**known, "control": control}


def lottery(name, shift=0.0):
    rounds = [entry(0, 0.9, 1.0), entry(1, 0.9 + shift, 0.5), entry(2, 0.8 + shift, 0.25)]
    controls = [entry(1, 0.7, 0.5, "random"), entry(2, 0.5, 0.25, "random")]
    points = [{"step": step, "score": 0.1 * step, "validation_loss": 1.0} for step in (1, 2, 3)]
    names = ("round-0", "round-1", "round-2", "random-1", "random-2")
    return History(name, "lth", {}, dict.fromkeys(names, points), {}, rounds, controls)


def sparse(name, method):
    updates = [{"step": step, "grown": 10 - step, "kept": 100, "itop": 0.1 * step, "density": 0.1,
                "layers": {"a": 0.1 + 0.01 * step, "b": 0.1}} for step in (1, 2, 3)]  # fmt: skip
    steps = [{"step": step, "loss": 1.0 / step} for step in (1, 2, 3)]
    return History(name, method, {"dst": steps}, {}, {"dst": updates})


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draw, and return the panels by their titles."""

    def draw(*histories):
        kept = []
        monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: (kept.append(self), path.write_bytes(b"PNG")))
        plot(histories, tmp_path / "x.png")
        return {axis.get_title(): axis for axis in kept[0].axes}

    return draw


def lines(axis):
    return {line.get_label(): line.get_xydata().tolist() for line in axis.get_lines()}


def labels(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


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
    assert labels(axis) == ["dense", "round 1: 50% left", "round 2: 25% left", "random 2"]
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
    assert set(curves) == {"a 0", "a 1", "b 0"}
    assert curves["b 0"] == [[1, 0.1], [2, 0.2], [3, pytest.approx(0.3)]]  # of the last ticket alone


def test_how_masks_change_and_how_dense_layers_are(drawn):
    axes = drawn(sparse("one", "dst:method=set"), sparse("two", "dst:method=rigl"))
    assert list(axes) == ["Learning curves", "How the masks change", "Density by layer, one"]
    first, _, _, used = axes["How the masks change"].get_lines()
    assert first.get_xydata().tolist() == [[1, 0.09], [2, 0.08], [3, 0.07]]
    assert used.get_xydata().tolist()[-1] == [3, pytest.approx(0.3)]
    assert labels(axes["How the masks change"]) == ["one", "two"]
    curves = axes["Learning curves"].get_lines()
    assert [line.get_color() for line in curves] == [first.get_color(), used.get_color()]  # one run has one colour
    assert lines(axes["Density by layer, one"])["a"][0] == [1, pytest.approx(0.11)]
    assert axes["Learning curves"].get_ylabel() == "training loss"


def test_it_is_a_picture(tmp_path):
    plot([lottery("a")], tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(InputError, match="nothing to draw"):
        plot([History("a", "lth")], tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []
