"""embed: weights are made of fewer values; the report says how many, and files keep them."""

import pytest
import torch
from helpers.command import small_program, sparsify, write_model

import sparsify as sp
from sparsify.embedding import embedded_names
from sparsify.errors import PassError, UsageError
from sparsify.passes.embed import Embed
from sparsify.verify import outputs


def done(options, *more):
    result = sp.run(small_program(), [f"embed:kind={options}", *more], seed=3)
    return result.program, result.report["passes"][0]


def test_before_and_after():
    program, record = done("interspace,only=layer1.0.conv1")
    text = str(program)
    assert str(small_program()) != text
    made = [node.name for node in program.graph.nodes if "matmul" in str(node.target)]
    assert len(made) == 1
    assert embedded_names(program) == ("layer1.0.conv1.weight",)
    assert program.history == ("embed:kind=interspace,only=layer1.0.conv1",)
    assert record["embedded"] == ["layer1.0.conv1.weight"]
    assert (record["weights"], record["trained"]) == (4 * 4 * 9, 4 * 4 * 9 + 81)
    assert record["proved"] == 0


@pytest.mark.parametrize(
    ("options", "trained", "stored"),
    [
        ("interspace,share=layer,basis=random", None, "stored: these"),
        ("dct,sparsity=0.9", None, "a bit for each of"),
        ("projection,dimension=50", 50, "the weights at the start ("),
        ("projection,dimension=50,share=layer", 50, "bytes), a seed"),
    ],
)
def test_the_report_says_what_is_trained_and_stored(options, trained, stored, tmp_path):
    program, record = done(options)
    assert trained is None or record["trained"] == trained
    assert stored in record["done"]
    assert f"{record['weights']:,} weights of {len(record['embedded'])} layers are made of" in record["done"]
    before = sp.run(small_program(), []).report["after"]
    after = sp.run(program, []).report["after"]
    assert after["macs"] == before["macs"]
    hidden = sum(int((~mask).sum()) for mask in program.masks.values())
    assert after["parameters"] - hidden == before["parameters"] - record["weights"] + record["trained"]
    sp.save(program, tmp_path / "small.pt2")
    assert torch.equal(outputs(sp.load(tmp_path / "small.pt2"))[0], outputs(program)[0])


def test_from_the_command_line(tmp_path):
    model = write_model(tmp_path)
    words = ("--pass", "embed:kind=projection,dimension=60", "--task", "digits", "--retrain", "fine-tune:steps=2it")
    ran = sparsify(model, *words, "-o", tmp_path / "small.pt2", "-o", tmp_path / "small.onnx")
    assert ran.status == 0, ran.err
    assert "are made of 60 trained values; stored: these, the weights at the start" in " ".join(ran.out.split())
    program = sp.load(tmp_path / "small.pt2")
    assert program.parameters["coordinates"].any()
    ran = sparsify(tmp_path / "small.pt2", "--pass", "fold", "-o", tmp_path / "dense.safetensors")
    assert ran.status == 0, ran.err
    assert "parameters written out, proven equal" in " ".join(ran.out.split())


def test_a_weight_is_made_once():
    program, _ = done("interspace")
    with pytest.raises(PassError, match="masked or embedded already; `--pass fold` writes such a weight out"):
        sp.run(program, ["embed:kind=dct,sparsity=0.9"])
    again = sp.run(program, ["fold", "embed:kind=dct,sparsity=0.9"]).program
    assert "basis_3x3" not in again.parameters


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "dct"}, "kind=dct needs sparsity="),
        ({"kind": "projection"}, "kind=projection needs dimension="),
        ({"kind": "interspace", "dimension": 3}, "kind=interspace has no dimension; projection takes it"),
        ({"kind": "dct", "sparsity": 0.5, "share": "all"}, "kind=dct has no share; interspace and projection take it"),
        ({"kind": "dct", "sparsity": 1.0}, r"sparsity=1.0 is not in \[0, 1\)"),
        ({"kind": "projection", "dimension": 0}, "dimension=0 is less than 1"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Embed(**options)
