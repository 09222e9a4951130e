"""The pass lower: what it takes, what it says, and that nothing else changes."""

import pytest
import torch
from helpers.lowered import mixed, operators

import sparsify as sp
from sparsify import verify
from sparsify.errors import PassError, UsageError
from sparsify.lowering import choosing
from sparsify.masking import baked

PRUNE = "weight-prune:sparsity=0.7,scope=layer"
FORMATS = {"point": "index", "first": "bitmask", "wide": "bitmask"}  # that are the fastest, in these tests


@pytest.fixture
def times(monkeypatch):
    """Make formats fast for some layers: the time of tests decides nothing."""
    order = iter(["wide", "point", "stride", "first", "second", "turned", "added"])

    def measured(calls, device, **settings):
        if "lowered" in calls:
            return {"dense": 3.0, "lowered": 2.0}
        best = FORMATS.get(next(order))
        return {kind: 0.5 if kind == best else 1.0 if kind == "dense" else 2.0 for kind in calls}

    monkeypatch.setattr(choosing, "least", measured)


def test_each_layer_gets_its_fastest_format(times):
    pruned = sp.run(mixed(), [PRUNE]).program
    result = sp.run(pruned, ["lower"])
    record = result.report["passes"][0]
    assert {name: told["format"] for name, told in record["choices"].items()} == {
        "wide.weight": "bitmask", "point.weight": "index", "stride.weight": "dense", "first.weight": "bitmask",
        "second.weight": "dense", "turned": "dense", "added": "dense",
    }  # fmt: skip
    assert record["choices"]["first.weight"]["ms"] == {"dense": 1.0, "index": 2.0, "bitmask": 0.5}
    assert record["choices"]["first.weight"]["density"] == pytest.approx(0.3, abs=0.01)
    assert record["done"] == "dense x4, bitmask x2, index x1; the model: 1.50x"
    assert sorted(operators(result.program)) == [
        "sparsify::bitmask_linear", "sparsify::bitmask_linear", "sparsify::index_linear"
    ]  # fmt: skip
    assert not result.program.masks
    assert "where" not in str(result.program)  # what stays dense pays for no mask
    assert result.program.dynamic_batch
    verify.equivalent(pruned, result.program)


def test_where_dense_is_faster_nothing_changes(monkeypatch):
    monkeypatch.setattr(choosing, "least", lambda calls, device, **_: {k: 1.0 + (k != "dense") for k in calls})
    pruned = sp.run(mixed(), [PRUNE]).program
    result = sp.run(pruned, ["lower"])
    assert operators(result.program) == []
    assert str(result.program) == str(baked(pruned))


def test_a_model_that_is_not_faster_as_a_whole_stays(monkeypatch):
    def measured(calls, device, **settings):
        return {"dense": 2.0, "lowered": 2.5} if "lowered" in calls else {k: 1.0 + (k == "dense") for k in calls}

    monkeypatch.setattr(choosing, "least", measured)
    pruned = sp.run(mixed(), [PRUNE]).program
    result = sp.run(pruned, ["lower"])
    assert operators(result.program) == []
    assert result.report["passes"][0]["done"].endswith("; the model is no faster (0.80x): it stays dense")
    assert result.report["passes"][0]["model_ms"] == {"dense": 2.0, "lowered": 2.5}


def test_fewest_bytes_need_no_measurement(monkeypatch):
    monkeypatch.setattr(choosing, "least", None)
    result = sp.run(mixed(), ["weight-prune:sparsity=0.95,scope=layer", "lower:by=bytes"])
    record = result.report["passes"][1]
    told = record["choices"]["second.weight"]
    sizes = told["sizes"]
    assert told["format"] == min(sizes, key=sizes.__getitem__) != "dense"
    assert told["bytes"] == f"{sizes['dense']:.0f} -> {sizes[told['format']]:.0f}"
    assert "of the bytes" in record["done"]
    assert sp.cost(result.program).bytes < sp.cost(mixed()).bytes / 2


def test_only_some_layers(times):
    result = sp.run(mixed(), [PRUNE, "lower:only=wide,point"])
    assert list(result.report["passes"][1]["choices"]) == ["wide.weight", "point.weight"]
    assert result.report["passes"][1]["skipped"]["first.weight"] == "it is not among only="


def test_it_really_measures():
    result = sp.run(mixed(), [PRUNE, "lower:only=first,batch=3"])
    told = result.report["passes"][1]["choices"]["first.weight"]
    assert told["ms"].keys() == {"dense", "index", "bitmask"}
    assert all(time > 0 for time in [*told["ms"].values(), *result.report["passes"][1].get("model_ms", {}).values()])


def test_what_is_wrong_is_said():
    with pytest.raises(PassError, match="no weight has a mask"):
        sp.run(mixed(), ["lower"])
    with pytest.raises(UsageError, match="lower: batch=0 is no size of a batch"):
        sp.run(mixed(), ["lower:batch=0"])
    with pytest.raises(UsageError, match="by=bytes measures no batch"):
        sp.run(mixed(), ["lower:by=bytes,batch=3"])


def test_the_program_before_and_after():
    torch.manual_seed(0)
    program = sp.capture(torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU()), (torch.randn(3, 4),))
    pruned = sp.run(program, ["weight-prune:sparsity=0.75,scope=layer"]).program
    assert str(pruned).splitlines()[1:] == [
        "%input_1: float32[batch, 4] = input",
        "%linear: float32[batch, 2] = linear(%input_1, %where_scalar_other, 0.bias)",
        "%relu: float32[batch, 2] = relu(%linear)",
        "return [%relu]",
    ]
    assert str(sp.run(pruned, ["lower:by=bytes"]).program).splitlines() == [
        "%input_1: float32[batch, 4] = input",
        "%nm_linear_default: float32[batch, 2] = sparsify.nm_linear("
        "%input_1, 0.weight_values, 0.weight_codes, 0.bias, relu, n=2, m=4, inputs=4)",
        "return [%nm_linear_default]",
    ]
