"""Weights of cosines that nobody stores, and a few trained ones on top."""

import math

import pytest
import torch
from torch import nn

import sparsify as sp
from sparsify.embedding import folded
from sparsify.embeddings.dct import dct
from sparsify.layout import Layout

LINEAR = Layout((0,), (1,))


@pytest.fixture
def program():
    torch.manual_seed(0)
    return sp.capture(nn.Sequential(nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 12)), (torch.randn(2, 20),))


LAYOUTS = {"0.weight": LINEAR, "2.weight": LINEAR}


def test_the_offset_is_a_part_of_a_cosine_matrix(program):
    weight = folded(dct(program, LAYOUTS, sparsity=0.9)).parameters["2.weight"].double()
    offset = weight / weight.abs().max()
    known = torch.tensor(
        [[math.cos(math.pi * i * (2 * j + 1) / 24) if i else math.sqrt(0.5) for j in range(12)] for i in range(12)]
    ).double()
    known = known / known.abs().max()
    # rows and columns in another order: squared they have the same sums, in any order
    for dim in (0, 1):
        torch.testing.assert_close(offset.sum(dim).abs().sort()[0], known.sum(dim).abs().sort()[0], atol=1e-5, rtol=0)
    product = offset @ offset.t()
    torch.testing.assert_close(product, torch.diag(product.diagonal()), atol=1e-5, rtol=0)


def test_it_has_the_quadratic_mean_of_the_weight(program):
    for name, weight in folded(dct(program, LAYOUTS, sparsity=0.9)).parameters.items():
        if name in LAYOUTS:
            old = program.parameters[name].square().mean()
            assert weight.square().mean().item() == pytest.approx(old.item(), rel=1e-5)


def test_the_trained_places_are_counted_exactly(program):
    for allocation in ("erk", "uniform"):
        masks = dct(program, LAYOUTS, sparsity=0.95, allocation=allocation).masks
        assert sum(int(mask.sum()) for mask in masks.values()) == 19  # 5% of 240 + 144, rounded
    assert (int(masks["0.weight"].sum()), int(masks["2.weight"].sum())) == (12, 7)
    again, other = (dct(program, LAYOUTS, sparsity=0.95, seed=seed).masks for seed in (0, 1))
    assert torch.equal(again["0.weight"], dct(program, LAYOUTS, sparsity=0.95).masks["0.weight"])
    assert not torch.equal(again["0.weight"], other["0.weight"])


def test_training_moves_the_places_and_the_factor_alone(program, tmp_path):
    class Regression:
        name = "regression"

        def batches(self, split, seed=0):
            generator = torch.Generator().manual_seed(seed)
            yield from (torch.randn(8, 20, generator=generator) for _ in range(5))

        def loss(self, model, batch):
            return model(batch).square().mean()

        def score(self, model):
            return sp.Score(0.0, "score", 1)

    before = dct(program, LAYOUTS, sparsity=0.9)
    after = sp.retrain(before, "fine-tune:steps=5it,weight_decay=0,learning_rate=0.1", Regression()).program
    one, two = (folded(p).parameters["0.weight"] for p in (before, after))
    scale = after.parameters["0.weight_scale"] / before.parameters["0.weight_scale"]
    hidden = ~before.masks["0.weight"]
    assert float(scale) != 1
    torch.testing.assert_close(two[hidden], one[hidden] * scale, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(two[~hidden], one[~hidden] * scale, atol=1e-4)
    sp.save(after, tmp_path / "small.pt2")
    again = sp.load(tmp_path / "small.pt2")
    assert torch.equal(folded(again).parameters["0.weight"], two)
    assert "0.weight_scale" in again.parameters
