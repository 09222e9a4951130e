from helpers.reports import BEFORE, report, score

from sparsify.report.tradeoff import Point, points, quantity

SPARSE = {**BEFORE, "nonzero": 250}


def test_without_scores_there_is_no_point():
    assert points(report()) == []


def test_dense_pruned_and_result():
    scores = {"before": score(0.9, [0.8, 0.95]), "pruned": score(0.5), "after": score(0.85)}
    made = report(after=SPARSE, pruned={**BEFORE, "nonzero": 500}, scores=scores)
    assert points(made) == [
        Point("dense", "before", 1.0, 0.9, (0.8, 0.95)),
        Point("pruned", "after the passes", 0.5, 0.5),
        Point("result", "result", 0.25, 0.85),
    ]


def test_rounds_and_controls_by_what_they_have_left():
    rounds = [{"round": i, "nonzero_share": 0.8**i, "macs_share": 1.0, "score": 0.9 - i / 100} for i in range(3)]
    controls = [{"control": "random", "round": 2, "nonzero_share": 0.64, "macs_share": 1.0, "score": 0.7}]
    made = report(
        after={**BEFORE, "nonzero": 640}, retrain={"rounds": rounds, "controls": controls},
        scores={"before": score(0.9), "after": score(0.88)},
    )  # fmt: skip
    found = points(made)
    assert [point.kind for point in found] == ["dense", "round", "round", "round", "control", "result"]
    assert [point.left for point in found[1:4]] == [1.0, 0.8, 0.8**2]
    assert found[4] == Point("control", "control random", 0.64, 0.7)


def test_what_is_left_is_macs_where_macs_went():
    assert quantity(report(after=SPARSE)) == "nonzero"
    assert quantity(report(after={**BEFORE, "macs": 1})) == "macs"
