from types import SimpleNamespace

import pytest

from sparsify import latency
from sparsify.errors import UsageError
from sparsify.file_bench import compare
from sparsify.latency import SESSIONS


class Fake:
    """A model that takes as long as it says, by a clock of its own."""

    clock = 0.0

    def __init__(self, name, seconds, fixed=None):
        self.name, self.runtime, self.bytes, self.seconds, self.fixed = name, "a runtime", 10, seconds, fixed
        self.masked, self.asked = name == "slow", []

    def starting(self, batch, threads):
        if batch == 7:
            raise UsageError("not seven")
        self.asked.append((batch, threads))

        def run():
            Fake.clock += batch * self.seconds

        return lambda: run


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: Fake.clock))


def test_models_are_compared_with_the_first_at_every_batch_size():
    slow, fast = Fake("slow", 4e-3), Fake("fast", 1e-3)
    one, two = compare([slow, fast], [1, 2], threads=3, seconds=0)
    assert slow.asked == fast.asked == [(1, 3), (2, 3)]
    assert (one.batch, one.threads, two.batch) == (1, 3, 2)
    first, second = one.rows
    assert first.speed is None
    assert second.speed.ratio == pytest.approx(4)
    assert second.speed.verdict == "faster"
    assert two.rows[0].latency.median == pytest.approx(8)
    assert first.latency.runs == 2 * SESSIONS
    record = two.as_dict()
    assert record["files"][0] == {"file": "slow", "runtime": "a runtime", "bytes": 10, "speed": None,
                                  "masked": True, "latency_ms": two.rows[0].latency.as_dict()}  # fmt: skip
    assert record["files"][1]["speed"]["verdict"] == "faster"


def test_what_a_model_refuses_is_said_before_that_batch_is_measured():
    before = Fake.clock
    with pytest.raises(UsageError, match="not seven"):
        compare([Fake("a", 1.0)], [7])
    assert Fake.clock == before


def test_a_fixed_batch_is_that_of_all():
    models = [Fake("any", 1e-3), Fake("four", 1e-3, fixed=4)]
    (table,) = compare(models, seconds=0)
    assert table.batch == 4
    assert [row.latency.batch for row in table.rows] == [4, 4]
    assert compare(models, [4], seconds=0)[0].batch == 4
    assert compare(models[:1], seconds=0)[0].batch == 1
    with pytest.raises(UsageError, match="four is captured for a batch size of 4 only: leave --batches out"):
        compare(models, [4, 1], seconds=0)
    with pytest.raises(UsageError, match=r"Batch sizes differ: four to 4 and two to 2"):
        compare([*models, Fake("two", 1e-3, fixed=2)], seconds=0)
