"""`--storage` and `sparsify unpack`."""

import json
import shutil

import onnx
import pytest
import torch
from helpers.command import sparsify, unmeasured, write_model
from safetensors.torch import load_file
from torch import nn

import sparsify as sp


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A model, a packed file of it, and what the command said."""
    folder = tmp_path_factory.mktemp("packed")
    model = folder / "model.pt2"
    sp.save(sp.capture(nn.Sequential(nn.Linear(64, 65), nn.ReLU(), nn.Linear(65, 30)), (torch.randn(2, 64),)), model)
    words = ("--pass", "weight-prune:sparsity=0.9,scope=layer", "-o", folder / "small.onnx", "--storage", "packed")
    with pytest.MonkeyPatch.context() as patch:
        unmeasured(patch)
        return folder, sparsify(model, *words), sparsify(model, *words, "--json")


@pytest.fixture
def packed(written, tmp_path, monkeypatch):
    """Both files in a folder of the test."""
    unmeasured(monkeypatch)
    folder, ran, as_json = written
    for name in ("model.pt2", "small.onnx"):
        shutil.copy(folder / name, tmp_path)
    return tmp_path / "small.onnx", ran, as_json


def test_a_packed_file_is_written_and_unpacked(packed, tmp_path):
    path, ran, as_json = packed
    assert ran.status == 0, ran.err
    assert "small.onnx (" in ran.out
    assert "% of " in ran.out
    assert ran.out.rstrip().endswith("small.onnx --storage packed")
    artefact = json.loads(as_json.out)["artefacts"][0]
    assert artefact["storage"] == "packed"
    assert artefact["bytes"] == path.stat().st_size
    unpacked = sparsify("unpack", path, "-o", tmp_path / "dense.onnx")
    assert unpacked.status == 0, unpacked.err
    assert unpacked.out.startswith(f"wrote {tmp_path / 'dense.onnx'} (")
    assert "BitwiseAnd" not in {node.op_type for node in onnx.load(tmp_path / "dense.onnx").graph.node}


def test_what_is_wrong_is_said(packed, tmp_path):
    path, _, _ = packed
    before = path.read_bytes()
    for words, message in (
        (("unpack", path), "--output"),
        (("unpack", path, "-o", tmp_path / "a.pt2"), "a dense model is written as .onnx"),
        (
            ("unpack", tmp_path / "model.pt2", "-o", tmp_path / "a.onnx"),
            "files have packed weights",
        ),
        (("unpack", path, "-o", path), "is the model itself"),
        (("unpack", tmp_path / "none.onnx", "-o", tmp_path / "a.onnx"), "cannot be opened"),
        (
            (tmp_path / "model.pt2", "--storage", "packed", "-o", tmp_path / "a.pt2"),
            "is about .onnx and .safetensors files",
        ),
        ((tmp_path / "model.pt2", "--storage", "zip", "-o", tmp_path / "a.onnx"), "there is no 'zip'"),
    ):
        ran = sparsify(*words)
        assert (ran.status, ran.out) == (2, "")
        assert message in ran.err
    assert path.read_bytes() == before
    assert not (tmp_path / "a.onnx").exists()


def test_one_option_is_for_all_files(tmp_path, packed):
    words = ("--pass", "weight-prune:sparsity=0.9", "--storage", "packed")
    files = [tmp_path / "a.onnx", tmp_path / "a.safetensors"]
    ran = sparsify(tmp_path / "model.pt2", *words, "-o", files[0], "-o", files[1])
    assert ran.status == 0, ran.err
    assert ran.out.count(", packed") == 2
    assert all(path.stat().st_size < 7000 for path in files)
    rounded = sparsify(tmp_path / "model.pt2", *words[:-1], "packed:values=int8", "-o", files[1])
    assert (rounded.status, rounded.out) == (2, "")
    assert "only .onnx files hold rounded values" in rounded.err


def test_a_compressed_state_is_written_and_unpacked(tmp_path, packed):
    path, dense = tmp_path / "a.safetensors", tmp_path / "dense.safetensors"
    words = ("--pass", "weight-prune:sparsity=0.9", "--storage", "packed", "--compress", "zstd", "-o", path)
    ran = sparsify(tmp_path / "model.pt2", *words)
    assert ran.status == 0, ran.err
    assert ", packed and compressed" in ran.out
    assert ran.out.rstrip().endswith("--storage packed --compress zstd")
    unpacked = sparsify("unpack", path, "-o", dense)
    assert unpacked.status == 0, unpacked.err
    assert "tensors whole again" in unpacked.out
    assert "0.weight" in load_file(dense)
    for words, message in (
        (("unpack", path, "-o", tmp_path / "a.onnx"), "is unpacked to a file of its own kind, .safetensors"),
        (("unpack", dense, "-o", tmp_path / "b.safetensors"), "no weight of this file is packed or compressed"),
        ((tmp_path / "model.pt2", "--compress", "zstd", "-o", tmp_path / "a.onnx"), "is about .safetensors files"),
    ):
        ran = sparsify(*words)
        assert (ran.status, ran.out) == (2, "")
        assert message in ran.err


def test_packing_nothing_is_noted(tmp_path, monkeypatch):
    unmeasured(monkeypatch)
    ran = sparsify(write_model(tmp_path), "-o", tmp_path / "a.onnx", "--storage", "packed")
    assert ran.status == 0
    assert "is stored dense: packed it would not be smaller" in " ".join(ran.out.split())


def test_data_outside_the_folder_is_not_read(packed, tmp_path):
    """What a packed file refers to outside its folder would be written into the unpacked one."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"\x01\x02\x03\x04" * 4)
    model = onnx.load(packed[0])
    stolen = onnx.TensorProto(name="stolen", data_type=onnx.TensorProto.FLOAT, dims=[4], data_location=1)
    stolen.external_data.add(key="location", value="../secret.bin")
    model.graph.initializer.append(stolen)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "bad.onnx").write_bytes(model.SerializeToString())
    ran = sparsify("unpack", folder / "bad.onnx", "-o", folder / "dense.onnx")
    assert ran.status == 2
    assert "secret.bin" in ran.err
    assert not (folder / "dense.onnx").exists()
