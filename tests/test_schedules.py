import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsify.errors import UsageError
from sparsify.schedules import parse_steps, remaining, sparsities, warm


@pytest.mark.parametrize(
    ("text", "steps"), [("500it", 500), ("0it", 0), ("10ep", 210), ("0.5ep", 10), (" 3ep ", 63), ("0ep", 0)]
)
def test_steps(text, steps):
    assert parse_steps(text, 21) == steps


@pytest.mark.parametrize("text", ["500", "ep", "-5it", "1.5it", "10 ep", "10epochs", "", "1e3it"])
def test_other_texts_are_refused(text):
    with pytest.raises(UsageError, match="500it or epochs as 10ep"):
        parse_steps(text, 21)


def test_the_length_of_an_epoch_is_only_asked_for_when_needed():
    def never():
        raise AssertionError

    assert parse_steps("7it", never) == 7
    assert parse_steps("7ep", lambda: 3) == 21


@pytest.mark.parametrize(
    ("shape", "quarter", "half"),
    [("constant", 1, 1), ("linear", 0.75, 0.5), ("cubic", 0.421875, 0.125), ("cosine", 0.853553, 0.5)],
)
def test_shapes(shape, quarter, half):
    assert remaining(shape, 0) == 1
    assert remaining(shape, 0.25) == pytest.approx(quarter, abs=1e-6)
    assert remaining(shape, 0.5) == pytest.approx(half)
    assert remaining(shape, 1) == pytest.approx(1 if shape == "constant" else 0)
    assert remaining(shape, 2) == remaining(shape, 1)
    assert remaining(shape, -1) == remaining(shape, 0)


def test_warm_up_rises_then_falls():
    assert [warm("linear", step, 8, 4) for step in range(8)] == [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25]
    assert [warm("constant", step, 3, 0) for step in range(3)] == [1, 1, 1]
    assert [warm("cosine", step, 2, 2) for step in range(2)] == [0.5, 1]


@pytest.mark.parametrize(
    ("schedule", "target", "rounds", "expected"),
    [
        ("one-shot", 0.9, 5, [0.9]),
        ("linear", 0.8, 4, [0.2, 0.4, 0.6, 0.8]),
        ("cubic", 0.8, 2, [0.8 * 7 / 8, 0.8]),
        ("cubic", 0.64, 4, [0.64 * 37 / 64, 0.64 * 56 / 64, 0.64 * 63 / 64, 0.64]),
        ("cosine", 0.6, 3, [0.15, 0.45, 0.6]),  # (1 - cos(60 degrees)) / 2 = 1/4
        ("exponential", 0.75, 2, [0.5, 0.75]),
        ("exponential", 0.999, 3, [0.9, 0.99, 0.999]),
        ("iterative", 0.5, 1, [0.2, 0.36, 0.488, 0.5]),
        ("linear", 0.8, 1, [0.8]),
        ("cubic", 0.0, 5, [0.0]),
    ],
)
def test_sparsities_by_hand(schedule, target, rounds, expected):
    assert sparsities(schedule, target, rounds) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("target", "rate", "rounds"),
    [(0.2, 0.2, 1), (0.36, 0.2, 2), (0.488, 0.2, 3), (0.9, 0.2, 11), (0.75, 0.5, 2), (0.1, 0.2, 1), (0.99, 0.9, 2)],
)
def test_iterative_pruning_takes_as_many_rounds_as_its_rate_needs(target, rate, rounds):
    found = sparsities("iterative", target, 1, rate)
    assert len(found) == rounds == max(1, math.ceil(math.log(1 - target) / math.log(1 - rate) - 1e-9))
    assert found[0] == pytest.approx(min(rate, target))
    for before, after in itertools.pairwise(found[:-1]):
        assert (after - before) / (1 - before) == pytest.approx(rate)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["one-shot", "linear", "cubic", "cosine", "exponential", "iterative"]),
    st.floats(0, 0.999), st.integers(1, 20), st.floats(0.01, 0.99),
)  # fmt: skip
def test_sparsities_rise_to_exactly_the_target(schedule, target, rounds, rate):
    found = sparsities(schedule, target, rounds, rate)
    assert found[-1] == target
    assert all(before <= after + 1e-12 for before, after in itertools.pairwise(found))
    assert all(0 <= value < 1 for value in found)
    if schedule not in ("one-shot", "iterative") and target:
        assert len(found) == rounds


@pytest.mark.parametrize(("target", "rounds", "rate"), [(1.0, 1, 0.2), (-0.1, 1, 0.2), (0.5, 0, 0.2), (0.5, 1, 0.0),
                                                        (0.5, 1, 1.0), (math.nan, 1, 0.2)])  # fmt: skip
def test_rounds_that_make_no_sense_are_refused(target, rounds, rate):
    with pytest.raises(UsageError, match=rf"rounds={rounds}, rate={rate} or sparsity={target} is out of its range"):
        sparsities("iterative", target, rounds, rate)
