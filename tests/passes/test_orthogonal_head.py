"""orthogonal-head: directions that stay, and one length that is trained."""

import pytest
import torch
from helpers.sparse import Clusters, program_of
from torch import nn

import sparsify as sp
from sparsify.embedding import folded
from sparsify.errors import PassError


@pytest.mark.parametrize("matrix", ["hadamard", "orthonormal"])
def test_rows_are_orthogonal_and_only_their_length_is_trained(matrix):
    program = program_of()
    before = program.parameters["4.weight"].detach()
    result = sp.run(program, [f"orthogonal-head:matrix={matrix}"], seed=3).program
    length = before.norm(dim=1).mean()
    rows = folded(result).parameters["4.weight"].detach() / length
    assert torch.allclose(rows @ rows.T, torch.eye(4), atol=1e-6)
    assert result.parameters["4.weight_temperature"].shape == (1,)
    assert "4.weight" not in result.parameters
    assert torch.equal(result.parameters["4.bias"], program.parameters["4.bias"])
    trained = sp.retrain(result, "fine-tune:steps=60it,learning_rate=0.05", Clusters())
    after = folded(trained.program).parameters["4.weight"].detach()
    assert torch.allclose(after / after.norm(dim=1, keepdim=True), rows, atol=1e-6)
    assert abs(float(after.norm(dim=1).mean() - length)) > 1e-3
    assert trained.report["score"] > 0.6  # chance is 0.25


def test_a_hadamard_matrix_is_signs():
    rows = folded(sp.run(program_of(), ["orthogonal-head"]).program).parameters["4.weight"]
    assert rows.abs().unique().numel() == 1
    assert rows.sign()[:, :4].tolist() == [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]


def test_saved_and_exported(tmp_path):
    result = sp.run(program_of(), ["orthogonal-head"]).program
    sp.save(result, tmp_path / "m.pt2")
    assert "4.weight_temperature" in sp.load(tmp_path / "m.pt2").parameters
    sp.export_onnx(result, tmp_path / "m.onnx")


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x):
        return self.one(x), self.other(x)


def test_which_layer():
    program = sp.capture(Two(), (torch.randn(3, 4),))
    with pytest.raises(PassError, match=r"there are one\.weight, other\.weight\. Name it with layer="):
        sp.run(program, ["orthogonal-head"])
    result = sp.run(program, ["orthogonal-head:layer=other"]).program
    assert sorted(result.parameters) == ["one.bias", "one.weight", "other.bias", "other.weight_temperature"]
