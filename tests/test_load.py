import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers.hostile import Payload, save_exported
from torch import nn

import sparsify as sp
from sparsify import verify
from sparsify.errors import InputError, UntrustedError, UsageError
from sparsify.load import load, read


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).eval()


X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def factory(tmp_path):
    layers = "nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)"
    (tmp_path / "nets.py").write_text(f"from torch import nn\ndef make(): return nn.Sequential({layers}).eval()\n")
    return f"{tmp_path / 'nets.py'}:make"


def write_exported(module, path):
    torch.export.save(torch.export.export(module, (X,)), path.with_suffix(".pt2"))
    path.with_suffix(".pt2").rename(path)


WHOLE = {
    "exported": write_exported,
    "module": torch.save,
    "checkpoint": lambda module, path: torch.save({"model": module, "epoch": 3}, path),
}
STATES = {
    "state": lambda module, path: torch.save(module.state_dict(), path),
    "old": lambda module, path: torch.save(module.state_dict(), path, _use_new_zipfile_serialization=False),
    "safetensors": lambda module, path: safetensors.torch.save_file(module.state_dict(), path),
    "wrapped": lambda module, path: torch.save(
        {"state_dict": {f"module.{key}": value for key, value in module.state_dict().items()}, "epoch": 3}, path
    ),
}
KINDS = {**WHOLE, **STATES}


def compute(source):
    module = source if isinstance(source, nn.Module) else source.module()
    return module(X)


@pytest.mark.parametrize("trust", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["model.pt", "model.jpg", "no ending"])
def test_a_model_is_recognised_by_its_content(tmp_path, factory, kind, name, trust):
    path = tmp_path / name
    KINDS[kind](network(), path)
    before = path.read_bytes()
    again = read(path, trust=trust, factory=factory if kind in STATES else None)
    assert torch.equal(compute(again), network()(X))
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", STATES)
def test_a_state_dict_needs_a_factory(tmp_path, kind):
    STATES[kind](network(), tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"a\.pt is a state dict.*--model"):
        read(tmp_path / "a.pt")


@pytest.mark.parametrize("kind", WHOLE)
def test_a_whole_model_needs_no_factory(tmp_path, kind):
    WHOLE[kind](network(), tmp_path / "a.pt")
    with pytest.raises(UsageError, match=r"a\.pt holds a whole model.*--model"):
        read(tmp_path / "a.pt", factory="nets:make")


@pytest.mark.parametrize("trust", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [0.001, 0.05, 0.5, 0.97])
def test_a_truncated_file_is_refused(tmp_path, factory, kind, cut, trust):
    path = tmp_path / "a.pt"
    KINDS[kind](network(), path)
    data = path.read_bytes()
    path.write_bytes(data[: max(1, int(len(data) * cut))])
    with pytest.raises(InputError, match=r"a\.pt"):
        read(path, trust=trust, factory=factory if kind in STATES else None)


def npz(path):
    with path.open("wb") as file:
        np.savez(file, a=np.ones(1))


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")


def tar(path):
    path.write_bytes(b"storages".ljust(257, b"\0") + b"ustar\x0000" + bytes(512))


OTHERS = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "jpeg": (lambda path: path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(1000)), "JPEG"),
    "text": (lambda path: path.write_text("import torch\n"), "no model of a known kind"),
    "one byte": (lambda path: path.write_bytes(b"\x08"), "no model of a known kind"),
    "json": (lambda path: path.write_text(json.dumps({"a": "b" * 100})), "no model of a known kind"),
    "gguf": (lambda path: path.write_bytes(b"GGUF" + bytes(100)), "GGUF"),
    "gzip": (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(100)), "gzip"),
    "hdf5": (lambda path: path.write_bytes(b"\x89HDF\r\n" + bytes(100)), "HDF5"),
    "onnx": (lambda path: path.write_bytes(b"\x08\x0a\x12\x07pytorch:\x00"), "damaged or incomplete ONNX file"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps([1])), r"a plain pickle that torch\.save did not write"),
    "tar": (tar, "tar archive"),
    "npz": (npz, "NumPy archive"),
    "zip": (zipped, "a zip archive without a model"),
    "empty zip": (lambda path: zipfile.ZipFile(path, "w").close(), "empty or broken zip"),
    "directory": (lambda path: path.mkdir(), "is a directory"),
    "missing": (lambda path: None, "No such file"),
    "tensor": (lambda path: torch.save(torch.ones(1), path), "holds a Tensor"),
    "broken safetensors": (lambda path: path.write_bytes(b"\x05" + bytes(7) + b"{]]]]"), "not a whole .safetensors"),
}


@pytest.mark.parametrize("trust", [True, False])
@pytest.mark.parametrize("what", OTHERS)
def test_other_files_are_refused(tmp_path, what, trust):
    write, match = OTHERS[what]
    write(tmp_path / "a.pt")
    with pytest.raises(InputError, match=rf"a\.pt .*{match}"):
        read(tmp_path / "a.pt", trust=trust)


def test_an_onnx_file_is_a_module_and_a_program(tmp_path):
    expected = sp.capture(network(), (X,))
    sp.export_onnx(expected, tmp_path / "a.onnx")
    assert isinstance(read(tmp_path / "a.onnx"), nn.Module)
    program = load(tmp_path / "a.onnx")
    assert program.example.synthetic
    (found,), (wanted,) = verify.outputs(program, [X]), verify.outputs(expected)
    assert verify.difference(wanted, found) <= 10 * verify.tolerance(wanted)  # as at export
    given = load(tmp_path / "a.onnx", example=((X,), {}))
    assert torch.equal(given.example.args[0], X)
    assert not given.example.synthetic


def test_an_onnx_file_needs_no_factory(tmp_path):
    sp.export_onnx(sp.capture(network(), (X,)), tmp_path / "a.onnx")
    with pytest.raises(UsageError, match="not needed"):
        read(tmp_path / "a.onnx", factory="a:b")


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        read(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_refused(tmp_path):
    (tmp_path / "a.pt").touch(0o000)
    with pytest.raises(InputError, match="Permission denied"):
        read(tmp_path / "a.pt")


@pytest.mark.parametrize("old", [True, False])
def test_a_pickled_payload_runs_only_with_trust(tmp_path, old):
    marker, path = tmp_path / "marker", tmp_path / "a.pt"
    torch.save({"model": nn.Linear(1, 1), "x": Payload(marker)}, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(UntrustedError, match=r"a\.pt could run code.*mkdir.*--trust"):
        read(path)
    assert not marker.exists()
    assert isinstance(read(path, trust=True), nn.Linear)
    assert marker.exists()


@pytest.mark.filterwarnings("ignore")
def test_torchscript_needs_trust_and_inputs(tmp_path):
    path = tmp_path / "a.pt"
    torch.jit.script(network()).save(path)
    with pytest.raises(UntrustedError, match=r"TorchScript.*--trust.*torch\.export\.save"):
        read(path)
    assert isinstance(read(path, trust=True), torch.jit.ScriptModule)
    program = load(path, "2x3x6x6", trust=True)
    assert set(program.parameters) == {name for name, _ in network().named_parameters()}


def test_inputs_come_from_the_user_then_the_file_then_the_task(tmp_path, factory):
    torch.save(network(), tmp_path / "a.pt")
    write_exported(network(), tmp_path / "a.pt2")
    task = ((torch.ones(2, 3, 6, 6),), {})

    program = load(tmp_path / "a.pt", "4x3x6x6", example=task)
    assert program.example.args[0].shape == (4, 3, 6, 6)
    assert program.example.synthetic
    program = load(tmp_path / "a.pt", example=task)
    assert program.example.args[0] is task[0][0]
    assert not program.example.synthetic
    program = load(tmp_path / "a.pt2", example=task)
    assert torch.equal(program.example.args[0], X)
    with pytest.raises(InputError, match=r"a\.pt has no example inputs.*--inputs 1x3x224x224"):
        load(tmp_path / "a.pt")


def test_inputs_for_an_archive_must_fit_it(tmp_path):
    path = save_exported(tmp_path / "a.pt2")
    torch.save((torch.ones(1),), tmp_path / "x.pt")
    safetensors.torch.save_file({"x": torch.ones(8, 4)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="was exported for the inputs x"):
        load(path, str(tmp_path / "x.safetensors"))
    write_exported(network(), tmp_path / "b.pt2")
    assert load(tmp_path / "b.pt2", "2x3x6x6").example.synthetic
    with pytest.raises(InputError, match=r"b\.pt2 was exported for other inputs: input is 2x3x7x7, not 2x3x6x6"):
        load(tmp_path / "b.pt2", "2x3x7x7")


def test_inputs_of_a_file_are_not_synthetic(tmp_path):
    torch.save(network(), tmp_path / "a.pt")
    safetensors.torch.save_file({"input": X}, tmp_path / "x.safetensors")
    program = load(tmp_path / "a.pt", str(tmp_path / "x.safetensors"))
    assert not program.example.synthetic
    assert torch.equal(program.module()(**program.example.kwargs), network()(X))


def test_wrong_options_fail_before_the_file_is_read(tmp_path):
    with pytest.raises(UsageError, match="input spec"):
        load(tmp_path / "missing.pt", "1x?x3")
    with pytest.raises(UsageError, match="device"):
        load(tmp_path / "missing.pt", device="nowhere")
