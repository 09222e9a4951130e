import pytest
from helpers.reports import BEFORE, latency, report, score

from sparsify.report.verdict import cards, headline

SMALLER = {"parameters": 600, "nonzero": 600, "macs": 4000, "bytes": 2400, "trainable": 600}


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
        (BEFORE, "Nothing changed"),
        (SMALLER, "40% fewer parameters, 50% fewer MACs"),
        ({**BEFORE, "nonzero": 200}, "80.0% of the weights are zeros"),
        ({**BEFORE, "trainable": 100}, "10.0% of the weights are trained"),
    ],
)
def test_without_a_file_the_model_is_the_size(after, text):
    assert headline(report(after=after)) == text


def test_zeros_in_a_file_of_the_same_size_are_said():
    made = report(after={**BEFORE, "nonzero": 100}, latency=latency(1.0, "within noise", 2000))
    assert headline(made) == "As fast as before, within noise, file as large as before, 90.0% of the weights are zeros"


def test_what_is_trained_has_a_card_where_something_is_frozen():
    assert "trainable" not in by_label(report())
    found = by_label(report(after={**BEFORE, "trainable": 100, "bytes": 9000}))
    assert found["trainable"].after == "100"
    assert "frozen" in found["in memory"].note


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
    assert headline(made) == "Minus the loss 0.4 higher"
    assert by_label(made)["minus the loss"].mood == "good"


def test_without_intervals_any_difference_counts():
    made = report(scores={"before": score(0.9), "after": score(0.8)})
    assert by_label(made)["accuracy"].mood == "bad"
    assert by_label(made)["accuracy"].note == ""
