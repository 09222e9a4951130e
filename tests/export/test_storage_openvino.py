"""Packed files in OpenVINO."""

import numpy as np
import pytest
import torch
from torch import nn

import sparsify as sp
from sparsify.freezing import frozen, redrawn

openvino = pytest.importorskip("openvino", reason="the extra openvino is not installed")

X = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def program():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 37, 3), nn.BatchNorm2d(37), nn.ReLU(), nn.Flatten(), nn.Linear(37 * 36, 31))
    return sp.capture(model, (torch.randn(2, 3, 8, 8),))


def request(path):
    """Run a file once, with counters; return the request and the bits of its output."""
    compiled = openvino.Core().compile_model(path, "CPU", {"PERF_COUNT": "YES"})
    made = compiled.create_infer_request()
    made.infer([X])
    return made, made.get_output_tensor(0).data.tobytes()


@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_packed_files_compute_the_same_bits_as_dense_ones(tmp_path, program, sparsity):
    pruned = sp.run(program, [f"weight-prune:sparsity={sparsity},scope=layer"]).program
    for storage in ("dense", "packed"):
        sp.export_onnx(pruned, tmp_path / f"{storage}.onnx", storage=storage)
    ran, bits = request(tmp_path / "packed.onnx")
    assert bits == request(tmp_path / "dense.onnx")[1]
    rebuilding = {"CumSum", "Gather", "ScatterElementsUpdate"}
    executed = {item.node_type for item in ran.profiling_info if item.status == item.Status.EXECUTED}
    assert not rebuilding & executed


def test_files_with_drawn_weights_are_refused_not_misread(tmp_path, program):
    torch.manual_seed(0)
    seed = redrawn(program, 7)
    mask = {"4.weight": torch.rand(31, 37 * 36) < 0.1}
    sp.export_onnx(frozen(seed, mask, 7), tmp_path / "m.onnx", storage="packed")
    with pytest.raises(RuntimeError, match=r"sparsify\.uniform"):
        openvino.Core().compile_model(tmp_path / "m.onnx", "CPU")
