import pytest

from sparsify.errors import UsageError
from sparsify.schedules import parse_steps, remaining, warm


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
