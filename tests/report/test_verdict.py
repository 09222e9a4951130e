import pytest
from helpers.reports import BEFORE, latency, report, score

from sparsify.report.verdict import cards, headline

SMALLER = {**BEFORE, "parameters": 600, "nonzero": 600, "macs": 4000, "bytes": 2400}


def by_label(made):
    return {card.label: card for card in cards(made)}


def test_one_sentence_says_speed_size_and_score():
    scores = {"before": score(0.99, [0.985, 0.995]), "after": score(0.95, [0.93, 0.97])}
    made = report(after=SMALLER, latency=latency(2.3444), scores=scores)
    assert headline(made) == "2.34x as fast, file 50% smaller, accuracy 4.0 points lower"


def test_what_is_within_noise_is_said_so():
    scores = {"before": score(0.99, [0.96, 0.995]), "after": score(0.985, [0.95, 0.99])}
    made = report(latency=latency(1.01, "within noise", 2000), scores=scores)
    assert headline(made) == (
        "As fast as before, within noise, file as large as before, accuracy 0.5 points lower (95% intervals overlap)"
    )
    found = by_label(made)
    assert (found["latency"].change, found["latency"].mood) == ("within noise", "even")
    assert found["accuracy"].mood == "even"
    assert "which overlap" in found["accuracy"].note


@pytest.mark.parametrize(
    ("after", "text"),
    [
        (BEFORE, "Non-zero parameters as large as before"),
        (SMALLER, "40% fewer non-zero parameters"),
        ({**BEFORE, "nonzero": 1500}, "50% more non-zero parameters"),
    ],
)
def test_without_a_file_the_parameters_are_the_size(after, text):
    assert headline(report(after=after)) == text


def test_slower_and_larger_are_bad():
    made = report(after={**BEFORE, "macs": 9000}, latency=latency(0.5, "slower", 3000))
    found = by_label(made)
    assert (found["latency"].mood, found["latency"].change) == ("bad", "0.50x")
    assert (found["ONNX file"].mood, found["ONNX file"].change) == ("bad", "+50.0%")
    assert (found["MACs"].mood, found["parameters"].mood) == ("bad", "even")
    assert found["parameters"].change == "the same"


def test_a_score_that_is_no_accuracy_keeps_its_unit():
    scores = {
        "before": score(-2.5, [-2.6, -2.4], "minus the loss"),
        "after": score(-2.1, [-2.2, -2.0], "minus the loss"),
    }
    made = report(scores=scores)
    assert headline(made).endswith("minus the loss 0.4 higher")
    assert by_label(made)["minus the loss"].mood == "good"


def test_without_intervals_any_difference_counts():
    made = report(scores={"before": score(0.9), "after": score(0.8)})
    assert by_label(made)["accuracy"].mood == "bad"
    assert by_label(made)["accuracy"].note == ""
