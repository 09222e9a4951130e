"""The plot of published results: panels, lines, one's own points."""

import pytest
from helpers.histories import labels, lines
from helpers.published import score, write_report, write_table
from matplotlib.figure import Figure

from sparsify.errors import InputError, UsageError
from sparsify.published.run import read_run
from sparsify.published.table import read_table
from sparsify.report.published_plot import plot_published


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw rows and reports; return the panels by their titles, and the runs that have no place."""

    def draw(*rows, runs=()):
        kept = []
        with monkeypatch.context() as patch:
            patch.setattr(Figure, "savefig", lambda self, path, **_: (kept.append(self), path.write_bytes(b"PNG")))
            left = plot_published(read_table(write_table(tmp_path / "t.csv", *rows)), runs, tmp_path / "x.png")
        return {axis.get_title(): axis for axis in kept[0].axes}, left

    return draw


def test_methods_are_lines_of_scores_by_what_is_left(drawn):
    panels, _ = drawn({}, {"sparsity": "0.5", "score": "76"}, {"method": "Riddle"}, {"data": "CIFAR-10"})
    assert list(panels) == ["ResNet-50 on CIFAR-10", "ResNet-50 on ImageNet"]
    axis = panels["ResNet-50 on ImageNet"]
    assert lines(axis) == {"Sieve": [[50.0, 76.0], [10.0, 74.5]], "Riddle": [[10.0, 74.5]]}
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("weights left, %", "accuracy in % (higher is better)")


def test_lines_can_be_told_apart(drawn):
    panels, _ = drawn(*({"method": f"m{number}"} for number in range(25)))
    (axis,) = panels.values()
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axis.get_lines()}
    assert len(looks) == 25


def test_the_same_method_of_two_papers_is_two_lines(drawn):
    panels, _ = drawn({}, {"paper": "Roe and Poe, More Sieves", "year": "2023", "score": "75"})
    (axis,) = panels.values()
    assert sorted(lines(axis)) == ["Sieve (Doe et al., 2021)", "Sieve (Roe and Poe, 2023)"]


def test_a_run_is_a_star_with_its_interval_and_its_dense_network(drawn, tmp_path):
    run = read_run(write_report(tmp_path / "r.json"))
    panels, left = drawn({}, runs=[run])
    (axis,) = panels.values()
    assert left == []
    (star,) = axis.containers
    assert star.lines[0].get_xydata().tolist() == [[10.0, 75.0]]
    assert star.lines[0].get_marker() == "*"
    assert star.lines[2][0].get_segments()[0][:, 1].tolist() == pytest.approx([70, 79])
    assert f"yours: {run.name}" in labels(axis)
    assert f"dense of {run.name}" in labels(axis)
    assert lines(axis)[f"dense of {run.name}"] == [[0.0, 80.0], [1.0, 80.0]]
    assert axis.get_xlim()[0] > 2 * axis.get_xlim()[1]  # a single place is not stretched over the axis


def test_a_run_without_a_score_of_the_kind_has_no_place(drawn, tmp_path):
    none = read_run(write_report(tmp_path / "a.json", scores=None))
    other = read_run(write_report(tmp_path / "b.json", scores={"before": score(-1, "x"), "after": score(-2, "x")}))
    panels, left = drawn({}, runs=[none, other])
    assert left == [none, other]
    assert labels(*panels.values()) == ["Sieve"]


def test_results_without_sparsity_have_no_place(drawn):
    only_macs = {"sparsity": "", "macs_removed": "0.5"}
    panels, _ = drawn({"method": "Riddle"}, only_macs)
    assert labels(*panels.values()) == ["Riddle"]
    with pytest.raises(InputError, match="none of the results says how many weights are left"):
        drawn(only_macs)


def test_seven_networks_are_too_many(drawn):
    assert len(drawn(*({"architecture": f"VGG-{number}"} for number in range(6)))[0]) == 6
    with pytest.raises(UsageError, match="results of 7 kinds, and a picture shows at most 6"):
        drawn(*({"architecture": f"VGG-{number}"} for number in range(7)))
