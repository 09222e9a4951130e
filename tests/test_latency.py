import random
import statistics
import sys
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from sparsify import latency
from sparsify.latency import SESSIONS, Latency, Speed, compare, in_turns, measure


class FakeOptions:
    """Remembers its entries: threads that go on spinning would slow down the next file's turn."""

    def __init__(self):
        self.entries = {}

    def add_session_config_entry(self, key, value):
        self.entries[key] = value


class FakeSession:
    """Writes down who ran; advances a clock by a time of its own in place of computing."""

    calls: ClassVar[list] = []
    clock = 0.0

    def __init__(self, path, options, providers):
        assert options.entries == {"session.force_spinning_stop": "1"}
        self.path, self.providers = path, providers

    def get_inputs(self):
        return [SimpleNamespace(name="x")]

    def run(self, names, feed):
        assert list(feed) == ["x"]
        FakeSession.calls.append(self.path)
        FakeSession.clock += {"slow.onnx": 4e-3, "fast.onnx": 1e-3}[self.path]


@pytest.fixture(autouse=True)
def onnxruntime(monkeypatch):
    FakeSession.calls, FakeSession.clock = [], 0.0
    fake = SimpleNamespace(SessionOptions=FakeOptions, InferenceSession=FakeSession)
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: FakeSession.clock))


FEED = {"x": np.zeros((3, 2), np.float32), "not read": np.zeros(1)}


def test_every_file_gets_its_own_times():
    slow, fast = measure(["slow.onnx", "fast.onnx"], [FEED, FEED], seconds=0)
    assert (slow.median, fast.median) == (pytest.approx(4), pytest.approx(1))
    assert slow.low <= slow.median <= slow.high
    assert slow.runs == fast.runs == 15
    assert slow.batch == 3
    assert slow.threads == fast.threads >= 1


def test_files_run_in_turns_after_warming_up():
    measure(["slow.onnx", "fast.onnx"], [FEED, FEED], seconds=0)
    warm, timed = FakeSession.calls[:10], FakeSession.calls[10:]
    assert warm == ["slow.onnx"] * 5 + ["fast.onnx"] * 5
    assert timed == [*["slow.onnx", "fast.onnx", "fast.onnx", "slow.onnx"] * 7, "slow.onnx", "fast.onnx"]


def test_more_time_means_more_runs_but_not_without_end():
    (some,) = measure(["slow.onnx"], [FEED], seconds=0.4)
    assert 99 <= some.runs <= 101  # the clock is a float
    (most,) = measure(["fast.onnx"], [FEED], seconds=1000)
    assert most.runs == 500


def test_quartiles():
    samples = [1.0, 2.0, 3.0, 4.0, 100.0]
    found = Latency.of(samples, threads=2, batch=1)
    low, median, high = statistics.quantiles(samples, n=4)
    assert found == Latency(median, low, high, runs=5, threads=2, batch=1)
    assert found.as_dict() == {"median": 3.0, "low": low, "high": high, "runs": 5, "threads": 2, "batch": 1}


def test_all_are_loaded_again_in_every_session():
    loaded: list[str] = []
    starts = [lambda: loaded.append("a") or (lambda: None), lambda: loaded.append("b") or (lambda: None)]
    times = in_turns(starts, seconds=0, sessions=3)
    assert loaded == ["a", "b"] * 3
    assert [[len(samples) for samples in own] for own in times] == [[5] * 3] * 2


@pytest.mark.parametrize(("cost", "held"), [(0.1, 8), (1.0, 4), (60.0, 3)])
def test_models_that_load_slowly_are_loaded_less_often(cost, held):
    def start():
        FakeSession.clock += cost / 2
        return lambda: None

    times = in_turns([start, start], seconds=0, sessions=SESSIONS, loading=4.0)
    assert [len(own) for own in times] == [held] * 2
    assert all(len(samples) == -(-15 // held) for own in times for samples in own)


def test_a_slow_model_is_warm_after_fewer_runs():
    calls = []

    def run():
        calls.append(FakeSession.clock)
        FakeSession.clock += 0.3

    in_turns([lambda: run], seconds=0)
    assert len(calls) == 2 + 15


def test_two_files_are_compared_in_sessions():
    slow, fast, speed = compare(["slow.onnx", "fast.onnx"], [FEED, FEED], seconds=0.1)
    assert (slow.median, fast.median, speed.ratio) == (pytest.approx(4), pytest.approx(1), pytest.approx(4))
    assert speed.verdict == "faster"
    assert slow.runs == fast.runs >= 15
    assert slow.batch == 3


def sessions(generator, factor, *, loading=0.005, noise=0.05, runs=50, count=SESSIONS):
    """Times of a model in sessions: each loading is a bit faster or slower, and so is each run, or far slower."""
    return [
        [factor * here * generator.gauss(1, noise) + (generator.random() < 0.1) * 5 for _ in range(runs)]
        for here in (generator.gauss(1, loading) for _ in range(count))
    ]


def test_speed_is_how_many_times_as_fast():
    twice = Speed.of([[2.0, 2.0, 8.0]] * SESSIONS, [[1.0, 1.0, 1.0]] * SESSIONS)
    assert (twice.ratio, twice.low, twice.high, twice.verdict) == (pytest.approx(2), *[pytest.approx(2)] * 2, "faster")
    assert Speed.of([[1.0]] * SESSIONS, [[2.0]] * SESSIONS).verdict == "slower"
    with pytest.raises(ValueError, match="3 to 8 sessions, not of 2"):
        Speed.of([[1.0]] * 2, [[1.0]] * 2)


@pytest.mark.parametrize("count", range(3, SESSIONS + 1))
def test_the_same_file_is_rarely_said_to_be_another(count):
    """A 99% interval errs in one of a hundred; 3 of 300 on average, more than 9 in one of a thousand such tests."""
    generator = random.Random(0)
    pairs = [[sessions(generator, 1.0, count=count) for _ in range(2)] for _ in range(300)]
    verdicts = [Speed.of(*pair).verdict for pair in pairs]
    assert sum(verdict != "within noise" for verdict in verdicts) <= 9


def test_three_percent_are_told_from_noise():
    generator = random.Random(0)
    pairs = [[sessions(generator, factor, runs=200) for factor in (1.03, 1.0)] for _ in range(50)]
    verdicts = [Speed.of(slow, fast).verdict for slow, fast in pairs]
    assert verdicts.count("faster") >= 48
