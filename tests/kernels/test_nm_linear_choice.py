"""Choosing among ways: by what was measured on the device, and never one that computes anything else."""

import gc
import json
import weakref
from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode

from sparsify.errors import InputError
from sparsify.kernels import _measured, _on_gpu
from sparsify.kernels._remembered import forget, remembered
from sparsify.kernels._timing import least

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _measured._read.cache_clear()
    return tmp_path / "sparsify" / "cpu.json"


def ways(*values):
    return {f"way {number}": lambda value=value: torch.tensor(value) for number, value in enumerate(values)}


def test_unmeasured_the_first_way_is_taken():
    assert _on_gpu.best("a", CPU, ways(1.0, 2.0)) == 1.0


def test_the_fastest_that_was_measured_is_taken(cache):
    _measured.note("cpu", "a", {"way 0": 2.0, "way 1": 1.0, "gone": 0.1})
    assert _on_gpu.best("a", CPU, ways(1.0, 2.0)) == 2.0
    assert _on_gpu.best("b", CPU, ways(1.0, 2.0)) == 1.0
    assert json.loads(cache.read_text("utf-8")) == {"a": {"way 0": 2.0, "way 1": 1.0, "gone": 0.1}}


@pytest.mark.parametrize(("times", "taken"), [
    ({"fast": 1.0, "dense": 1.0301}, 1.0),
    ({"fast": 1.0, "dense": 1.0299}, 3.0),
    ({"fast": 1.0, "dense": 0.5}, 3.0),
    ({"fast": 2.0, "other": 1.0, "dense": 1.5}, 2.0),
    ({"fast": 2.0, "other": 1.99, "dense": 2.04}, 3.0),
    ({"other": 1.0, "dense": 2.0}, 2.0),
    ({"fast": 1.0}, 1.0),
])  # fmt: skip
def test_another_way_is_taken_over_dense_only_if_it_is_three_hundredths_faster(times, taken):
    _measured.note("cpu", "a", times)
    values = {"fast": 1.0, "other": 2.0, "dense": 3.0}
    found = {name: lambda value=value: torch.tensor(value) for name, value in values.items()}
    assert _on_gpu.best("a", CPU, found) == taken


@pytest.mark.parametrize(("sparse", "taken"), [(0.97, "fast"), (0.972, "dense"), (1.2, "dense")])
def test_what_tuning_measures_decides_by_the_same_rule(monkeypatch, sparse, taken):
    found = {"fast": lambda: torch.ones(2), "dense": lambda: torch.ones(2)}
    monkeypatch.setattr(_on_gpu, "least", lambda calls, device, launched: {"fast": sparse, "dense": 1.0})
    with _on_gpu.tuning() as names:
        _on_gpu.best("a", CPU, found)
        _on_gpu.best("a", CPU, found)
    assert names == [taken, taken]


def test_tuning_measures_once_and_keeps_it(cache):
    calls = []
    tried = {"slow": lambda: calls.append(0) or torch.ones(300, 300) @ torch.ones(300, 300) * 0 + 3,
             "quick": lambda: torch.full((300, 300), 3.0)}  # fmt: skip
    with _on_gpu.tuning():
        _on_gpu.best("a", CPU, tried)
        measured = len(calls)
        _on_gpu.best("a", CPU, tried)
    assert measured > 5
    assert len(calls) == measured
    assert json.loads(cache.read_text("utf-8")).keys() == {"a"}
    _on_gpu.best("b", CPU, tried)
    assert json.loads(cache.read_text("utf-8")).keys() == {"a"}


def test_a_way_that_computes_something_else_is_never_taken(cache):
    with _on_gpu.tuning(), pytest.warns(RuntimeWarning, match="a: way 0 differs by 1 and is not used"):
        assert _on_gpu.best("a", CPU, ways(2.0, 1.0, 1.001)) in (1.0, 1.001)
    assert set(json.loads(cache.read_text("utf-8"))["a"]) == {"way 1", "way 2"}


def test_a_way_that_fails_is_never_taken(cache):
    def fail():
        raise RuntimeError("out of shared memory\nmore")

    with _on_gpu.tuning(), pytest.warns(RuntimeWarning, match=r"a: bad fails \(out of shared memory\) and is not used"):
        assert _on_gpu.best("a", CPU, {"bad": fail, **ways(1.0)}) == 1.0
    assert set(json.loads(cache.read_text("utf-8"))["a"]) == {"way 0"}


def test_a_way_that_fails_gives_way_and_is_not_tried_again(monkeypatch):
    monkeypatch.setattr(_on_gpu, "_FAILED", set())
    calls = []

    def fail():
        calls.append(0)
        raise RuntimeError("out of shared memory")

    with pytest.warns(RuntimeWarning, match="a: bad fails"):
        assert _on_gpu.best("a", CPU, {"bad": fail, **ways(1.0, 2.0)}) == 1.0
    assert _on_gpu.best("a", CPU, {"bad": fail, **ways(1.0, 2.0)}) == 1.0
    assert len(calls) == 1


def test_numbers_that_are_none_decide_nothing(cache):
    odd = torch.tensor([float("nan"), 1.0, float("inf")])
    with _on_gpu.tuning():
        _on_gpu.best("a", CPU, {"one": lambda: odd, "plain": lambda: odd})
    assert set(json.loads(cache.read_text("utf-8"))["a"]) == {"one", "plain"}


def test_problems_and_devices_have_names():
    key = _measured.key_of("nm_linear", torch.bfloat16, (4096, 14336), 17, "2:4")
    assert key == "nm_linear bfloat16 4096x14336 2:4 batch 32"
    assert _measured.file_of("NVIDIA H200").name == "nvidia-h200.json"


def test_a_table_that_is_shipped_decides_until_the_machine_was_measured(tmp_path, monkeypatch):
    assert Path(_measured.__file__).parent / "measured" == _measured._SHIPPED  # which pyproject.toml installs
    monkeypatch.setattr(_measured, "_SHIPPED", tmp_path / "measured")
    (tmp_path / "measured").mkdir()
    table = {"a": {"way 0": 9.0, "way 1": 1.0, "way 2": 9.0}, "b": {"way 0": 1.0, "way 1": 9.0, "way 2": 9.0}}
    (tmp_path / "measured" / "cpu.json").write_text(json.dumps(table), "utf-8")
    assert [float(_on_gpu.best(key, CPU, ways(0.0, 1.0, 2.0))) for key in "abc"] == [1.0, 0.0, 0.0]
    _measured.note("cpu", "a", {"way 0": 1.0, "way 1": 9.0, "way 2": 9.0})
    assert [float(_on_gpu.best(key, CPU, ways(0.0, 1.0, 2.0))) for key in "abc"] == [0.0, 0.0, 0.0]
    assert json.loads((tmp_path / "measured" / "cpu.json").read_text("utf-8")) == table


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"b": "c"}}'])
def test_a_damaged_table_is_named(cache, text):
    cache.parent.mkdir()
    cache.write_text(text, "utf-8")
    with pytest.raises(InputError, match=r"cpu\.json are damaged"):
        _measured.known("cpu")


def test_a_table_that_cannot_be_written_is_named(cache):
    cache.parent.write_text("", "utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        _measured.note("cpu", "a", {})


def test_what_is_made_of_tensors_is_made_again_when_they_change():
    one, other, made = torch.ones(2), torch.ones(2), []
    calls = [remembered("role", (one, other), lambda: made.append(0) or len(made)) for _ in range(2)]
    assert calls == [1, 1]
    assert remembered("another role", (one, other), lambda: 7) == 7
    other.add_(1)
    assert remembered("role", (one, other), lambda: 8) == 8
    assert remembered("role", (one, torch.ones(2)), lambda: 9) == 9
    assert remembered("role", (one,), lambda: 10) == 10


def test_data_that_is_assigned_is_another_tensor():
    tensor = torch.nn.Parameter(torch.ones(2))
    assert remembered("role", (tensor,), lambda: 1) == 1
    tensor.data = torch.zeros(2)
    assert remembered("role", (tensor,), lambda: 2) == 2
    tensor.data = tensor.data.double()
    assert remembered("role", (tensor,), lambda: 3) == 3


def test_what_is_remembered_goes_with_the_tensor():
    class Made:
        pass

    tensor = torch.ones(2)
    watched = weakref.ref(remembered("role", (tensor,), Made))
    assert watched() is not None
    del tensor
    gc.collect()
    assert watched() is None


def test_what_is_forgotten_is_made_again():
    one, other = torch.ones(2), torch.ones(2)
    assert remembered("a", (one, other), lambda: 1) == remembered("b", (one,), lambda: 1) == 1
    assert remembered("a", (other, one), lambda: 1) == 1
    forget(one)
    assert remembered("a", (one, other), lambda: 2) == remembered("b", (one,), lambda: 2) == 2
    assert remembered("a", (other, one), lambda: 2) == 1
    forget(torch.ones(2))


def test_fake_tensors_are_looked_at_every_time():
    with FakeTensorMode():
        tensor = torch.ones(2)
    found = iter((1, 2))
    assert [remembered("role", (tensor,), lambda: next(found)) for _ in range(2)] == [1, 2]


def test_tensors_of_inference_are_looked_at_every_time():
    with torch.inference_mode():
        tensor = torch.ones(2)
    found = iter((1, 2))
    assert [remembered("role", (tensor,), lambda: next(found)) for _ in range(2)] == [1, 2]


def test_the_least_of_calls_in_turns():
    order = []
    found = least({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, CPU, seconds=0)
    assert found.keys() == {"a", "b"}
    assert all(time >= 0 for time in found.values())
    assert order[:12] == ["a"] * 6 + ["b"] * 6
    assert order[12:24] == ["b"] * 6 + ["a"] * 6
