"""A dynamic sequence length, exported by the user, survives pruning and reaches ONNX."""

import pytest
import torch
from helpers.zoo import FAMILIES

import sparsify as sp

ort = pytest.importorskip("onnxruntime")


def exported_with_dynamic_sequence(model, ids, path):
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", min=2, max=64)}
    inputs = dict.fromkeys(ids, sizes)
    torch.export.save(torch.export.export(model, (), ids, dynamic_shapes=inputs, strict=False), path)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_a_pruned_model_runs_at_any_batch_and_length(name, tmp_path):
    model, args, kwargs = FAMILIES[name]()
    assert not args
    path = tmp_path / "model.pt2"
    exported_with_dynamic_sequence(model, {"input_ids": kwargs["input_ids"]}, path)
    program = sp.load(path)
    small = sp.run(program, ["channel-prune:sparsity=0.5,units=channels,heads,head-dim,kv-groups,stream", "shrink"])
    assert sp.cost(small.program).parameters < 0.4 * sp.cost(program).parameters
    masked = sp.run(program, ["channel-prune:sparsity=0.5,units=channels,heads,head-dim,kv-groups"]).program
    shrunken = sp.run(masked, ["shrink"]).program
    onnx = tmp_path / "small.onnx"
    sp.export_onnx(shrunken, onnx)
    session = ort.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    for shape in ((1, 5), (3, 20)):
        ids = torch.randint(0, 50, shape)
        with torch.no_grad():
            expected = masked.module()(input_ids=ids)["logits"]
            found = shrunken.module()(input_ids=ids)["logits"]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        result = session.run(None, {"input_ids": ids.numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(result), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_capture_keeps_a_length_symbolic_and_the_model_gets_its_weights_back(name):
    model, _, kwargs = FAMILIES[name]()
    ids = kwargs["input_ids"]
    program = sp.capture(model, (), {"input_ids": ids}, dynamic=[{1}])
    assert not program.notes
    small = sp.run(program, ["channel-prune:sparsity=0.5,units=channels,heads,kv-groups", "shrink"]).program
    sp.write_back(small, model)
    for shape in ((1, 5), (3, 20)):
        ids = torch.randint(0, 50, shape)
        with torch.no_grad():
            expected = model(input_ids=ids).logits
            torch.testing.assert_close(small.module()(input_ids=ids)["logits"], expected, rtol=1e-4, atol=1e-5)
