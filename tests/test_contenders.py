import onnx
import onnxruntime
import pytest
import torch
from helpers.command import small_program, write_model
from onnx import TensorProto, helper
from torch import nn

import sparsify as sp
from sparsify.contenders import contender, provider_called
from sparsify.errors import InputError, UsageError
from sparsify.export.onnx import export_onnx

CPU = {"provider": "CPUExecutionProvider", "device": "cpu", "trust": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_model(folder)
    export_onnx(small_program(), folder / "model.onnx")
    return folder


@pytest.fixture
def seen(monkeypatch):
    """What onnxruntime was asked to compute."""
    feeds = []
    real = onnxruntime.InferenceSession

    class Spy:
        def __init__(self, *args, **kwargs):
            self.session = real(*args, **kwargs)

        def get_inputs(self):
            return self.session.get_inputs()

        def run(self, names, feed):
            feeds.append(feed)
            return self.session.run(names, feed)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Spy)
    return feeds


def write(path, *inputs):
    """Write a file that returns its inputs."""
    ends = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs]
    results = [helper.make_tensor_value_info(f"{name}_out", kind, shape) for name, kind, shape in inputs]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name, _, _ in inputs]
    graph = helper.make_graph(nodes, "same", ends, results)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_onnx_files_run_in_onnxruntime_on_batches_of_any_size(folder, seen):
    model = contender(folder / "model.onnx", None, **CPU)
    assert model.runtime.startswith("onnxruntime ")
    assert model.bytes == (folder / "model.onnx").stat().st_size
    for batch in (1, 3):
        (logits,) = model.starting(batch, 1)()()
        assert logits.shape == (batch, 10)
        assert seen[-1]["images"].shape == (batch, 1, 8, 8)


def test_other_files_run_in_pytorch(folder):
    model = contender(folder / "model.pt2", None, **CPU)
    assert model.runtime == f"PyTorch {torch.__version__}"
    model.starting(4, torch.get_num_threads())()()


def test_unknown_sizes_are_asked_for_and_given_ones_taken(tmp_path, seen):
    path = write(tmp_path / "a.onnx", ("ids", TensorProto.INT64, ["batch", "length"]),
                 ("mask", TensorProto.BOOL, ["batch", 3]))  # fmt: skip
    with pytest.raises(UsageError, match=r"the input ids is tensor\(int64\) \[batch, length\].*give --inputs"):
        contender(path, None, **CPU)
    contender(path, "ids:int64[1,5]%9,mask:bool[1,3]", **CPU).starting(2, 1)()()
    assert seen[-1]["ids"].shape == (2, 5)
    assert (seen[-1]["ids"][0] == seen[-1]["ids"][1]).all()
    assert seen[-1]["mask"].shape == (2, 3)
    with pytest.raises(UsageError, match=r"does not fit .*, whose inputs are ids, mask"):
        contender(path, "1x5", **CPU)


def test_integers_are_ones_which_any_table_and_mask_has(tmp_path, seen):
    path = write(tmp_path / "a.onnx", ("ids", TensorProto.INT64, [1, 5]))
    contender(path, None, **CPU).starting(1, 1)()()
    assert seen[-1]["ids"].tolist() == [[1] * 5]


def test_a_fixed_batch_stays(tmp_path, folder, seen):
    model = contender(write(tmp_path / "a.onnx", ("x", TensorProto.FLOAT, [2, 5])), None, **CPU)
    assert model.fixed == 2
    model.starting(2, 1)()()
    assert seen[-1]["x"].shape == (2, 5)
    sp.save(sp.capture(nn.Linear(3, 2), (torch.randn(4, 3),), dynamic_batch=False), tmp_path / "b.pt2")
    assert contender(tmp_path / "b.pt2", None, **CPU).fixed == 4
    assert contender(folder / "model.onnx", None, **CPU).fixed is None
    assert contender(folder / "model.pt2", None, **CPU).fixed is None


def test_masks_cost_time_where_they_are_not_written_into_weights(tmp_path):
    masked = sp.run(small_program(), ["weight-prune:sparsity=0.5"]).program
    sp.save(masked, tmp_path / "masked.pt2")
    sp.save(sp.run(masked, ["fold"]).program, tmp_path / "folded.pt2")
    sp.save(sp.run(masked, ["lower"]).program, tmp_path / "lowered.pt2")
    export_onnx(masked, tmp_path / "a.onnx")
    names = ("masked.pt2", "folded.pt2", "lowered.pt2", "a.onnx")
    assert [contender(tmp_path / name, None, **CPU).masked for name in names] == [True, False, False, False]


def test_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        contender(tmp_path / "a.onnx", None, **CPU)
    (tmp_path / "b.onnx").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be loaded by onnxruntime"):
        contender(tmp_path / "b.onnx", None, **CPU)


def test_providers_have_short_names():
    assert provider_called("cpu") == provider_called("CPUExecutionProvider") == "CPUExecutionProvider"
    with pytest.raises(UsageError, match=r"--provider nothing: this onnxruntime has .*cpu"):
        provider_called("nothing")
