"""Filters as coefficients on a basis that is trained with them."""

import pytest
import torch
from helpers.command import small_program
from torch import nn

import sparsify as sp
from sparsify.embedding import embedded_names, folded
from sparsify.embeddings.interspace import interspace
from sparsify.errors import PassError
from sparsify.layers import layers
from sparsify.layout import Layout
from sparsify.verify import outputs

CONV = Layout((0,), (1,), (2, 3))


@pytest.fixture
def program():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, (1, 2)))
    return sp.capture(model, (torch.randn(2, 3, 9, 9),))


LAYOUTS = {f"{number}.weight": CONV for number in range(4)}


def test_the_standard_basis_leaves_every_bit(program):
    after = interspace(program, LAYOUTS)
    assert embedded_names(after) == ("0.weight", "1.weight", "3.weight")
    assert torch.equal(after.parameters["basis_3x3"], torch.eye(9).view(9, 3, 3))
    assert torch.equal(after.parameters["basis_1x2"], torch.eye(2).view(2, 1, 2))
    assert torch.equal(after.parameters["0.weight"], program.parameters["0.weight"])
    assert torch.equal(outputs(after)[0], outputs(program)[0])


def test_each_layer_can_have_its_own_basis_and_start_at_random(program):
    after = interspace(program, LAYOUTS, basis="random", shared=False, seed=3)
    assert [name for name in after.parameters if "basis" in name] == ["0.weight_basis", "1.weight_basis",
                                                                      "3.weight_basis"]  # fmt: skip
    for name in ("0.weight", "1.weight"):
        basis = after.parameters[f"{name}_basis"].view(9, 9)
        torch.testing.assert_close(basis @ basis.t(), torch.eye(9), atol=1e-6, rtol=0)
        filters = torch.einsum("oik,kab->oiab", after.parameters[name].flatten(2), after.parameters[f"{name}_basis"])
        torch.testing.assert_close(filters, program.parameters[name], atol=1e-6, rtol=0)
        torch.testing.assert_close(folded(after).parameters[name], filters, atol=1e-6, rtol=0)
        assert not torch.allclose(after.parameters[name], program.parameters[name], atol=0.01)
    other = interspace(program, LAYOUTS, basis="random", shared=False, seed=4)
    assert not torch.equal(other.parameters["0.weight_basis"], after.parameters["0.weight_basis"])


def test_coefficients_are_pruned_where_weights_would_be(program):
    """With a random basis the largest coefficients are not the largest weights, and masks are theirs."""
    after = interspace(program, LAYOUTS, basis="random")
    pruned = sp.run(after, ["weight-prune:sparsity=0.5,scope=layer"]).program
    size = after.parameters["0.weight"].abs()
    assert torch.equal(pruned.masks["0.weight"], size > size.flatten().sort().values[size.numel() // 2 - 1])
    assert int((folded(pruned).parameters["0.weight"] == 0).sum()) < 5
    assert "basis_3x3" not in pruned.masks


def test_scores_and_sparse_training_see_the_coefficients():
    program = small_program()
    passes = ["embed:kind=interspace,basis=random", "weight-prune:sparsity=0.8,criterion=snip"]
    after = sp.run(program, passes, "digits")
    known = {layer.parameter for layer in layers(after.program)}
    assert known == {layer.parameter for layer in layers(program)}
    trained = sp.retrain(after.program, "dst:method=rigl,steps=6it,every=2it,audit=yes", "digits").program
    basis = after.program.parameters["basis_3x3"]
    assert not torch.equal(trained.parameters["basis_3x3"], basis)
    count = sum(int(mask.sum()) for mask in after.program.masks.values())
    assert sum(int(mask.sum()) for mask in trained.masks.values()) == count
    assert any(not torch.equal(mask, after.program.masks[name]) for name, mask in trained.masks.items())


def test_without_kernels_there_is_no_interspace(program):
    with pytest.raises(PassError, match="kernels have several places, and there is none"):
        interspace(program, {"2.weight": CONV})
