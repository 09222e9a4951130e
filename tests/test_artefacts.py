from pathlib import Path

import pytest
from helpers.command import small_program

import sparsify as sp
from sparsify.artefacts import ENDINGS, Artefacts, check_outputs, is_folder
from sparsify.errors import InputError, PassError, UsageError
from sparsify.pipeline import Result


@pytest.fixture(scope="module")
def result():
    return sp.run(small_program(), ["weight-prune:sparsity=0.5"])


@pytest.mark.parametrize("name", ["a.onnx", "a.pt2", "a.safetensors", "a.pt", "a.pth"])
def test_the_ending_of_the_target_says_the_format(result, tmp_path, name):
    place = tmp_path / name
    checked = Artefacts(result, Path("model.pt2")).write(Path("elsewhere") / name, place)
    assert checked["bytes"] == place.stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_is_a_folder():
    assert all(is_folder(Path(name)) for name in ("small", "qwen2.5-7b", "a/b.c/d"))
    assert not any(is_folder(Path(f"a{ending}")) for ending in (*ENDINGS, ".tflite"))


def test_a_ticket_that_is_not_there_is_no_file(result):
    held = Artefacts(result, Path("model.pt2"))
    held.check([Path("a.onnx")])
    with pytest.raises(PassError, match="There is no ticket"):
        held.check([Path("a.onnx"), Path("a.ticket")])


def test_notes_say_what_is_stored_otherwise_than_asked(result):
    held = Artefacts(result, Path("model.pt2"), storage="auto")
    assert held.notes(Path("a.onnx"), {"storage": "packed", "packed": []}) == []
    assert held.notes(Path("a.onnx"), {"storage": "dense"}) == [
        "a.onnx is stored dense: packed it would not be smaller."
    ]
    (note,) = held.notes(Path("a.onnx"), {"storage": "dense", "two_of_four": ["w"]})
    assert "its 2:4 weights stay so, for TensorRT must see their zeros" in note


def test_sparse_layers_are_dense_in_onnx():
    program = sp.run(small_program(), ["weight-prune:sparsity=0.9,scope=layer", "lower-index"]).program
    held = Artefacts(Result(program, {}), Path("model.pt2"))
    assert "ONNX files have dense layers" in held.notes(Path("a.onnx"), {})[0]
    assert held.notes(Path("a.pt2"), {}) == []


def test_outputs_are_checked_before_any_work(tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"")
    check_outputs([tmp_path / f"x{ending}" for ending in ENDINGS], model)
    for wrong, message in [("x.bin", "ending"), ("x", "ending"), ("model.onnx", "never overwritten")]:
        with pytest.raises(UsageError, match=message):
            check_outputs([tmp_path / wrong], model)
    (tmp_path / "folder.onnx").mkdir()
    for wrong, message in [("no/x.onnx", "does not exist"), ("folder.onnx", "is a folder")]:
        with pytest.raises(InputError, match=message):
            check_outputs([tmp_path / wrong], model)
