"""Names of transposed weights."""

import numpy as np
import onnx
import torch
from torch import nn

import sparsify as sp


class Tied(nn.Module):
    """Products of three dimensions, whose weights torch's exporter transposes, and an embedding that one shares."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.emb, self.up, self.down = nn.Embedding(50, 40), nn.Linear(40, 60), nn.Linear(60, 40)
        self.out = nn.Linear(40, 50, bias=False)
        self.out.weight = self.emb.weight

    def forward(self, ids):
        return self.out(self.down(torch.relu(self.up(self.emb(ids)))))


def held(path):
    return {item.name: onnx.numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer}


def test_transposed_weights_are_called_after_their_parameters(tmp_path):
    model = Tied()
    program = sp.capture(model, (torch.randint(0, 50, (2, 7)),))
    sp.export_onnx(program, tmp_path / "m.onnx")
    found = held(tmp_path / "m.onnx")
    for name in ("up", "down"):
        expected = model.get_submodule(name).weight.detach().numpy().T
        np.testing.assert_array_equal(found[f"{name}.weight_transposed"], expected)
    tied = [name for name in found if found[name].size == 2000]
    assert sorted(tied) == ["emb.weight_transposed", "out.weight"]


def test_pruned_they_are_packed_under_these_names(tmp_path):
    program = sp.capture(Tied(), (torch.randint(0, 50, (2, 7)),))
    program = sp.run(program, ["weight-prune:sparsity=0.9,scope=layer"]).program
    report = sp.export_onnx(program, tmp_path / "m.onnx", storage="packed")
    assert {"up.weight_transposed", "down.weight_transposed"} <= {item["name"] for item in report["packed"]}
