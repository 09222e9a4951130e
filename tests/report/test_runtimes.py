import pytest
from helpers.reports import BEFORE, ROW, latency, report

from sparsify.report.runtimes import uses


def made(pattern="", sparse=False, **changes):
    found = report(**changes)
    found["layers"]["rows"] = [{**ROW, "pattern": pattern}]
    found["layers"]["sparse_layers"] = sparse
    return {use.runtime: use for use in uses(found)}


def test_smaller_layers_are_for_everyone():
    found = made(after={**BEFORE, "parameters": 500})
    assert {name: use.verdict for name, use in found.items()} == {"every runtime": "smaller"}
    found = made(after={**BEFORE, "parameters": 500, "macs": 4000})
    assert found["every runtime"].verdict == "faster"
    slow = latency(1.0, "within noise")
    found = made(after={**BEFORE, "parameters": 500, "macs": 4000}, latency=slow)
    assert (found["every runtime"].verdict, found["every runtime"].text[-12:]) == ("smaller", "within noise")


def test_nothing_is_for_nobody():
    assert made()["every runtime"].verdict == "no use"


@pytest.mark.parametrize(
    ("pattern", "verdict"), [("2:4", "faster"), ("1:4", "faster"), ("unstructured", "no use"), ("4:8", "no use")]
)
def test_tensor_cores_take_two_of_four(pattern, verdict):
    assert made(pattern)["TensorRT"].verdict == verdict


def test_zeros_are_computed_unless_sparse_layers_are_there():
    assert made("unstructured")["PyTorch"].verdict == "no use"
    assert made("unstructured", sparse=True)["PyTorch"].verdict == "smaller"
    assert made("unstructured", sparse=True, pipeline=["lower:batch=1"])["PyTorch"].verdict == "faster"
    assert made("unstructured", sparse=True, pipeline=["lower:by=bytes"])["PyTorch"].verdict == "smaller"
    assert made("unstructured")["onnxruntime, OpenVINO"].verdict == "no use"
    packed = made("unstructured", artefacts=[{"path": "a.onnx", "bytes": 1, "storage": "packed"}])
    assert packed["onnxruntime, OpenVINO"].verdict == "smaller"
    assert packed["Core ML"].verdict == "smaller"


def test_sparse_layers_are_as_large_as_they_were():
    whole = {**ROW, "after": {**ROW["after"], "parameters": 1000, "nonzero": 100}}
    found = report(after={**BEFORE, "parameters": 100, "macs": 800}, layers={
        **report()["layers"], "rows": [{**whole, "pattern": "unstructured"}], "sparse_layers": True})  # fmt: skip
    assert [use.runtime for use in uses(found)] == ["onnxruntime, OpenVINO", "TensorRT", "Core ML", "PyTorch"]


def test_masked_channels_want_to_be_removed():
    found = made("channels")
    assert list(found) == ["every runtime"]
    assert "--pass shrink" in found["every runtime"].text


def test_what_lower_has_measured_is_not_advised_again():
    found = made("unstructured", pipeline=["weight-prune:sparsity=0.5", "lower:by=time"])
    assert "measured" in found["PyTorch"].text
    assert "1 of 1 layer " in made("2:4")["TensorRT"].text
