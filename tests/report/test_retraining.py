"""What a retraining prints: its rounds beside the controls, and how the masks moved."""

import io

from rich.console import Console

from sparsify.report.retraining import print_retraining


def printed(record):
    out = io.StringIO()
    print_retraining(Console(file=out, width=100), record)
    return out.getvalue()


def entry(number, score, density, control=None, best=None):
    known = {"round": number, "score": score, "density": density, "nonzero_share": density, "macs_share": 1.0,
             "first_steps_to_best": best}  # fmt: skip
    return known if control is None else {**known, "control": control}


def test_rounds_and_controls_are_rows():
    record = {
        "rounds": [entry(0, 0.98, 1.0), entry(1, 0.985, 0.5), entry(2, 0.9, 0.25)],
        "controls": [entry(2, 0.8, 0.25, "random")], "winning": [1], "margin": 0.01, "dense_score": 0.98,
    }  # fmt: skip
    lines = [line.split() for line in printed(record).splitlines()]
    assert lines[0] == ["round", "network", "density", "non-zeros", "MACs", "score"]
    assert [line[:3] for line in lines[1:5]] == [
        ["0", "dense", "100%"], ["1", "ticket", "50.0%"], ["2", "ticket", "25.0%"], ["2", "random", "25.0%"]
    ]  # fmt: skip
    assert " ".join(lines[5]) == "winning tickets (at most 0.01 below the 0.9800 of the dense network): rounds 1"


def test_the_step_of_the_best_loss_is_a_column_and_losing_is_said():
    record = {"rounds": [entry(0, 0.98, 1.0, best=40)], "winning": [], "margin": 0.01, "dense_score": 0.98}
    text = printed(record)
    assert "best at step" in text
    assert "40" in text
    assert "no ticket wins: none is at most 0.01 below the 0.9800" in text


def test_masks_that_moved():
    record = {"itop": 0.25, "exchanges": 3, "kept": 100, "wanted": 100, "masked_weights": 1000, "dense": ""}
    text = "the masks changed 3 times; 25.0% of the weights were in use at some time\n"
    assert printed(record) == text
    few = "100 of 1,000 weights are kept, and 120 were asked for: every row keeps a whole number of them\n"
    assert printed({**record, "wanted": 120}) == text + few
    underneath = "this training was dense underneath: it cost what a dense one costs, or nearly\n"
    assert printed({**record, "wanted": None, "dense": "dense underneath"}) == text + underneath
