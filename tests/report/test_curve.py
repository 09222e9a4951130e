import pytest
from helpers.reports import BEFORE, report, score

from sparsify.report.curve import HEIGHT, WIDTH, curve, drawing, ticks
from sparsify.report.tradeoff import Point


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.913, 0.998, [0.92, 0.94, 0.96, 0.98]),
        (-2.6, -2.0, [-2.6, -2.5, -2.4, -2.3, -2.2, -2.1, -2.0]),
        (0, 43, [0, 10, 20, 30, 40]),
        (1e-9, 5e-9, [1e-9, 2e-9, 3e-9, 4e-9, 5e-9]),
    ],
)
def test_ticks_are_few_and_round(low, high, wanted):
    assert ticks(low, high) == pytest.approx(wanted)


def test_without_two_scores_there_is_no_curve():
    assert curve(report()) is None


def test_more_is_higher_and_less_is_further_left():
    scores = {"before": score(0.99, [0.97, 1.0]), "after": score(0.9, [0.85, 0.93])}
    found = curve(report(after={**BEFORE, "macs": 2000}, scores=scores))
    dense, result = found["points"]
    assert (dense["kind"], result["kind"]) == ("dense", "result")
    assert dense["x"] > result["x"]
    assert dense["y"] < result["y"]
    assert result["ends"][0] > result["y"] > result["ends"][1]
    assert all(
        0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in ((p["x"], end) for p in found["points"] for end in p["ends"])
    )
    assert "0.9000 (0.8500 to 0.9300) at 25.0%" in result["text"]
    assert found["x_label"].startswith("multiply")


def test_equal_scores_can_be_drawn():
    found = curve(report(scores={"before": score(0.0), "after": score(0.0)}))
    assert len({point["y"] for point in found["points"]}) == 1
    assert len(found["y_ticks"]) >= 3


def test_points_at_the_same_place_do_not_hide_each_other():
    found = [Point("method", name, 0.5, 0.9) for name in ("a", "b")] + [Point("method", "c", 0.5, 0.8)]
    first, second, other = drawing(found, [], "left", "score")["points"]
    assert (first["behind"], second["behind"], other["behind"]) == (1, 0, 0)
    assert first["text"] == second["text"] == "a: 0.9000 at 50.0%\nb: 0.9000 at 50.0%"
    assert other["text"] == "c: 0.8000 at 50.0%"
