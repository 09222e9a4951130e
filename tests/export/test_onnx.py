import json
import os
import signal
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers.models import ConvNet, Net, equal_leaves, images, linear, rows, run
from torch import nn

import sparsify as sp
from sparsify.errors import ExportError, InputError
from sparsify.export import onnx as export_module
from sparsify.export.onnx import export_onnx, feed


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def export(tmp_path, model, *args, **kwargs):
    program = sp.capture(model, args, kwargs)
    return program, export_onnx(program, tmp_path / "m.onnx"), session(tmp_path / "m.onnx")


def test_the_batch_is_dynamic(tmp_path):
    model = ConvNet()
    _, report, found = export(tmp_path, model, images(1))
    for count in (1, 2, 5):
        (output,) = found.run(None, {"x": images(count).numpy()})
        expected = run(model.eval(), [images(count)])[0].detach().numpy()
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)  # another order of summation
    assert found.get_inputs()[0].shape == ["batch", 3, 6, 6]
    assert found.get_outputs()[0].shape == ["batch", 2]
    assert report["inputs"] == ["x"]
    assert report["outputs"] == ["output"]
    assert report["bytes"] == (tmp_path / "m.onnx").stat().st_size
    assert report["opset"] >= 17
    assert report["largest_difference"] < 1e-5


def test_a_fixed_batch(tmp_path):
    program = sp.capture(ConvNet(), (images(),), dynamic_batch=False)
    export_onnx(program, tmp_path / "m.onnx")
    assert session(tmp_path / "m.onnx").get_inputs()[0].shape == [2, 3, 6, 6]


def test_inputs_are_called_like_the_models_arguments(tmp_path):
    _, report, found = export(tmp_path, nn.Sequential(nn.Linear(4, 4)), rows())
    assert report["inputs"] == [item.name for item in found.get_inputs()] == ["input"]


class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.l = nn.Embedding(7, 4), nn.Linear(4, 4)

    def forward(self, ids, unused, mask, scale=1.0, flag=True):
        y = self.l(self.emb(ids).sum(1)) * scale
        return {"add": y + 1, "linear": torch.where(mask[:, None], y, 0.0), "best": y.argmax(-1), "none": None}


def test_integer_boolean_unused_and_constant_inputs_and_several_outputs(tmp_path):
    args = (torch.tensor([[1, 2], [3, 4]]), rows(2), torch.tensor([True, False]))
    program, report, found = export(tmp_path, Several(), *args, scale=2.0)
    assert [(i.name, i.type) for i in found.get_inputs()] == [
        ("ids", "tensor(int64)"),
        ("unused", "tensor(float)"),
        ("mask", "tensor(bool)"),
    ]
    assert report["outputs"] == [item.name for item in found.get_outputs()] == ["add", "linear", "best"]
    feeds = feed(program, program.example.leaves())
    assert feeds.keys() == {"ids", "unused", "mask"}
    assert found.run(["best"], feeds)[0].tolist() == program.module()(*args, scale=2.0)["best"].tolist()


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda s, x: (s.l(x), x), ["output_0", "output_1"]),
        (lambda s, x: [s.l(x)] * 2, ["output_0", "output_1"]),
        (lambda s, x: (3, None, s.l(x)), ["output_2"]),
        (lambda s, x: {"x": s.l(x), "l.weight": x * 2}, ["x_1", "l_weight"]),
        (lambda s, x: {"weight": s.l(x) * s.weight}, ["weight"]),
        (lambda s, x: (s.l(x), x.shape[0]), ["output_0"]),
        (lambda s, x: s.l(x).sum(), ["output"]),
    ],
    ids=["input returned", "twice", "constants", "name of an input", "name of a parameter", "size", "scalar"],
)
def test_odd_outputs(tmp_path, function, names):
    model = Net(function, **linear(weight=nn.Parameter(torch.ones(4))))
    _, report, found = export(tmp_path, model, rows())
    assert [item.name for item in found.get_outputs()] == report["outputs"] == names
    outputs = [leaf for leaf in run(model.eval(), [rows(5)]) if isinstance(leaf, torch.Tensor)]
    for one, other in zip(found.run(None, {"x": rows(5).numpy()}), outputs, strict=True):
        np.testing.assert_allclose(one, other.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_metadata(tmp_path):
    program = sp.capture(ConvNet(), (images(),)).applied("layer-prune:count=2").applied("shrink")
    export_onnx(program, tmp_path / "m.onnx", metadata={"recipe": "mine"})
    model = onnx.load(tmp_path / "m.onnx")
    metadata = {item.key: item.value for item in model.metadata_props}
    assert json.loads(metadata["sparsify.passes"]) == ["layer-prune:count=2", "shrink"]
    assert metadata["sparsify.version"] == sp.__version__
    assert metadata["recipe"] == "mine"
    assert model.producer_name == "sparsify"


def test_the_file_tells_nothing_of_the_machine_and_has_the_models_names(tmp_path):
    export(tmp_path, ConvNet(), images())
    data = (tmp_path / "m.onnx").read_bytes()
    assert b"site-packages" not in data
    assert b".py" not in data
    assert str(tmp_path.parent).encode() not in data
    assert b"head.weight" in data


def test_it_is_silent(tmp_path, capfd, recwarn):
    export(tmp_path, ConvNet(), images())
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_types(tmp_path, dtype):
    _, report, _ = export(tmp_path, nn.Linear(4, 4).to(dtype), rows().to(dtype))
    assert report["largest_difference"] <= torch.finfo(dtype).eps * 4


@pytest.mark.parametrize(
    ("model", "x", "message"),
    [
        (nn.Linear(4, 4).bfloat16(), rows().bfloat16(), "no bfloat16 on the CPU; convert the model"),
        (Net(lambda s, x: torch.fft.fft(s.l(x)), **linear()), rows(), "ONNX has no complex tensors"),
        (Net(lambda s, x: 3, **linear()), rows(), "returns no tensor"),
        (
            Net(lambda s, x: torch.linalg.eigvalsh(s.l(x.T @ x)), **linear()),
            rows(),
            "exporter cannot write aten",
        ),
        (ConvNet().double(), images().double(), "few kernels for float64; convert the model before"),
    ],
    ids=["bfloat16", "complex", "nothing", "operator", "float64"],
)
def test_what_onnx_cannot_say_is_refused_readably(tmp_path, model, x, message):
    with pytest.raises(ExportError, match=message) as caught:
        export_onnx(sp.capture(model, (x,)), tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_computes_something_else_does_not_appear(tmp_path, monkeypatch):
    def spoil(*args, **kwargs):
        result = original(*args, **kwargs)
        value = result.model.graph.initializers["head.bias"]
        value.const_value = type(value.const_value)(torch.tensor([1.0, 2.0]))
        return result

    original = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", spoil)
    (tmp_path / "m.onnx").write_text("old")
    with pytest.raises(
        ExportError, match=r"onnxruntime computes another output: it differs by .* \(relative\)"
    ) as caught:
        export(tmp_path, ConvNet(), images())
    assert caught.value.exit_status == 3
    assert (tmp_path / "m.onnx").read_text() == "old"


def test_a_file_that_is_wrong_only_at_another_batch_size_does_not_appear(tmp_path, monkeypatch):
    original = export_module.export
    monkeypatch.setattr(export_module, "export", lambda model, example, dynamic: original(model, example))
    with pytest.raises(ExportError, match="onnxruntime cannot run the exported model"):
        export(tmp_path, ConvNet(), images())
    assert not (tmp_path / "m.onnx").exists()


def test_a_target_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        export_onnx(sp.capture(ConvNet(), (images(),)), tmp_path / "gone" / "m.onnx")


def test_the_program_is_left_as_it_is(tmp_path):
    program = sp.capture(ConvNet(), (images(),))
    text, output = str(program), run(program.module(), [images()])
    export_onnx(program, tmp_path / "m.onnx")
    assert str(program) == text
    assert equal_leaves(run(program.module(), [images()]), output)
    assert isinstance(program.module()(images()), torch.Tensor)


KILLED = """
import os, signal, sys
import torch
import sparsify as sp
from sparsify.export import onnx as module

program = sp.capture(torch.nn.Linear(2, 2), (torch.ones(2, 2),))
module._check = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
module.export_onnx(program, sys.argv[1])
"""


def test_a_killed_export_leaves_nothing(tmp_path):
    folder, scratch = tmp_path / "out", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    command = [sys.executable, "-c", KILLED, str(folder / "m.onnx")]
    done = subprocess.run(command, env={**os.environ, "TMPDIR": str(scratch)}, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert list(folder.iterdir()) == []


def test_first_sizes_that_are_independent_keep_names_of_their_own(tmp_path):
    class Apart(nn.Module):
        def forward(self, x, table):
            return x * 2, table + 1

    program = sp.capture(Apart(), (torch.randn(4, 3), torch.randn(4)))
    export_onnx(program, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    first = [value.type.tensor_type.shape.dim[0].dim_param for value in model.graph.input]
    assert first == ["batch", "batch_1"]
