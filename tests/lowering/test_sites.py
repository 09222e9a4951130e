"""Sites: which masked weights sparse operators can compute, and why not the others."""

import pytest
import torch
from helpers.lowered import LOWERINGS, mixed, operators
from torch import nn

import sparsify as sp
from sparsify.lowering.sites import FORMS, operator_of, sites
from sparsify.operators import OPERATORS


def test_who_else_reads_a_weight_keeps_it_dense():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 8))
            self.other = nn.Linear(8, 8)

        def forward(self, x):
            return self.other(x @ self.weight) + self.weight.mean()

    tied = sp.capture(Tied(), (torch.randn(2, 8),))
    result = sp.run(tied, ["weight-prune:sparsity=0.5,scope=layer", "lower-index"])
    assert result.report["passes"][1]["skipped"] == {"weight": "something else reads it, too"}
    assert operators(result.program) == ["sparsify::index_linear"]


def test_sites_name_every_masked_weight():
    pruned = sp.run(mixed(), [LOWERINGS["lower-index"]]).program
    assert {site.name for site in sites(pruned)} == pruned.masks.keys()


def test_operators_are_known_by_name():
    assert sorted(form.operator for form in FORMS.values()) == sorted(OPERATORS)
    for kind, form in FORMS.items():
        assert operator_of(kind).name() == f"sparsify::{form.operator}"


@pytest.mark.parametrize(("layer", "reason"), [
    (nn.Conv2d(4, 4, 3, dilation=2), "the kernel of conv2d is dilated"),
    (nn.Conv2d(4, 4, 3, padding="same"), "the operator aten::conv2d has no sparse one"),
    (nn.Conv2d(4, 4, 3, groups=2), "it is no single matrix"),
    (nn.Conv2d(4, 4, 3, padding_mode="reflect"), ""),
])  # fmt: skip
def test_which_convolutions_are_products_with_patches(layer, reason):
    program = sp.capture(nn.Sequential(layer), (torch.randn(2, 4, 8, 8),))
    pruned = sp.run(program, ["weight-prune:sparsity=0.5,scope=layer"]).program
    assert [site.reason for site in sites(pruned, patches=True)] == [reason]
    (site,) = sites(pruned)
    assert site.reason == (reason if not site.patched else "it is a convolution larger than 1x1, which stays dense")


@pytest.mark.parametrize(("make", "shape", "reason"), [
    (lambda w, b: lambda x: torch.nn.functional.linear(x, w, b[:1]), (2, 8), "the bias of linear is broadcast"),
    (lambda w, b: lambda x: torch.addmm(b[:1], x, w), (2, 8), "addmm adds something else than a bias"),
    (lambda w, b: lambda x: torch.nn.functional.linear(x, w, b), (2, 8), ""),
])  # fmt: skip
def test_biases_that_are_broadcast(make, shape, reason):
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(8, 8)), nn.Parameter(torch.randn(8))

        def forward(self, x):
            return make(self.weight, self.bias)(x)

    program = sp.capture(Layer(), (torch.randn(shape),))
    (site,) = sites(sp.run(program, ["weight-prune:sparsity=0.5,scope=layer"]).program)
    assert site.reason == reason


def test_images_without_a_batch():
    program = sp.capture(nn.Sequential(nn.Conv2d(4, 4, 1)), (torch.randn(4, 8, 8),), dynamic_batch=False)
    (site,) = sites(sp.run(program, ["weight-prune:sparsity=0.5,scope=layer"]).program)
    assert site.reason == "it is given images without a batch"
