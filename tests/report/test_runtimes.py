import pytest
from helpers.reports import BEFORE, ROW, report

from sparsify.report.runtimes import uses


def made(pattern="", sparse=False, **changes):
    found = report(**changes)
    found["layers"]["rows"] = [{**ROW, "pattern": pattern}]
    found["layers"]["sparse_layers"] = sparse
    return {use.runtime: use for use in uses(found)}


def test_smaller_layers_are_for_everyone():
    found = made(after={**BEFORE, "parameters": 500})
    assert {name: use.verdict for name, use in found.items()} == {"every runtime": "faster"}


def test_nothing_is_for_nobody():
    assert made()["every runtime"].verdict == "no use"


@pytest.mark.parametrize(
    ("pattern", "verdict"), [("2:4", "faster"), ("1:4", "faster"), ("unstructured", "no use"), ("4:8", "no use")]
)
def test_tensor_cores_take_two_of_four(pattern, verdict):
    assert made(pattern)["TensorRT"].verdict == verdict


def test_zeros_are_computed_unless_sparse_layers_are_there():
    assert made("unstructured")["PyTorch"].verdict == "no use"
    assert made("unstructured", sparse=True)["PyTorch"].verdict == "faster"
    assert made("unstructured")["onnxruntime, OpenVINO"].verdict == "no use"
    packed = made("unstructured", artefacts=[{"path": "a.onnx", "bytes": 1, "storage": "packed"}])
    assert packed["onnxruntime, OpenVINO"].verdict == "smaller file"
    assert packed["Core ML"].verdict == "smaller file"
