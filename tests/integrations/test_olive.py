"""The pass for Olive, in workflows that Olive runs."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

os.environ["OLIVE_DISABLE_TELEMETRY"] = "1"  # before it is imported
pytest.importorskip("olive", reason="the extra olive is not installed")

from olive.model import ONNXModelHandler
from olive.workflows import run

from sparsify.errors import UsageError
from sparsify.integrations.olive import Sparsify, package_config

SCRIPT = """
import torch

def make(path):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 80), torch.nn.ReLU(), torch.nn.Linear(80, 10))
"""


def workflow(folder, *, storage, more=None):
    (folder / "user.py").write_text(SCRIPT)
    shape = {"input_names": ["input"], "input_shapes": [[2, 64]], "output_names": ["output"]}
    return {
        "input_model": {
            "type": "PyTorchModel",
            "model_loader": "make",
            "model_script": str(folder / "user.py"),
            "io_config": shape,
        },
        "passes": {
            "prune": {"type": "Sparsify", "passes": ["weight-prune:sparsity=0.9,scope=layer"], "storage": storage},
            **(more or {}),
        },
        "output_dir": str(folder / "out"),
        "cache_dir": str(folder / "cache"),
        "log_severity_level": 3,
    }


def written(folder):
    (path,) = (folder / "out").rglob("*.onnx")
    return path


@pytest.mark.parametrize("storage", ["dense", "packed"])
def test_a_workflow_prunes_and_writes_onnx(tmp_path, storage):
    output = run(workflow(tmp_path, storage=storage), package_config=package_config())
    assert output.has_output_model()
    path = written(tmp_path)
    metadata = {item.key: item.value for item in onnx.load(path).metadata_props}
    assert json.loads(metadata["sparsify.passes"])[0].startswith("weight-prune:sparsity=0.9")
    assert ("sparsify.packed" in metadata) is (storage == "packed")
    found = onnxruntime.InferenceSession(str(path)).run(None, {"input": np.ones((3, 64), np.float32)})[0]
    assert found.shape == (3, 10)
    names = {"out": {}, "user": {}}
    exec(SCRIPT, names["user"])
    dense = names["user"]["make"](None)
    assert not np.allclose(found, dense(torch.ones(3, 64)).detach().numpy())


def test_passes_of_olive_go_on_with_it(tmp_path):
    config = workflow(tmp_path, storage="dense", more={"peephole": {"type": "OnnxPeepholeOptimizer"}})
    run(config, package_config=package_config())
    assert [node.op_type for node in onnx.load(written(tmp_path)).graph.node] == ["Gemm", "Relu", "Gemm"]


def test_the_package_file_knows_the_pass_and_those_of_olive():
    found = subprocess.run([sys.executable, "-m", "sparsify.integrations.olive"], capture_output=True, check=True)
    passes = json.loads(found.stdout)["passes"]
    assert passes["sparsify"]["module_path"] == "sparsify.integrations.olive.Sparsify"
    assert "onnxconversion" in passes


def test_onnx_models_are_refused(tmp_path):
    from olive.hardware import DEFAULT_CPU_ACCELERATOR
    from olive.passes.olive_pass import create_pass_from_dict

    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])), tmp_path / "m.onnx")
    prune = create_pass_from_dict(Sparsify, {"passes": ["sanity"]}, accelerator_spec=DEFAULT_CPU_ACCELERATOR)
    with pytest.raises(UsageError, match="takes a PyTorch model, not ONNXModelHandler"):
        prune.run(ONNXModelHandler(str(tmp_path / "m.onnx")), str(tmp_path / "out"))
