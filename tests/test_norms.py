import pytest
import torch
from helpers.regression import Regression
from helpers.residual import wired
from helpers.zoo import FAMILIES
from torch import nn

import sparsify as sp
from sparsify.masking import masked
from sparsify.norms import norm_parameters, norm_scales, norms, with_batch_statistics


def scales(norm, x=(2, 4, 5, 5)):
    model = nn.Sequential()
    model.add_module("norm", norm)
    return norm_scales(sp.capture(model, (torch.randn(*x),)))


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(4),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, affine=True),
        nn.LayerNorm(5),
        nn.RMSNorm(5),
        nn.BatchNorm2d(4, track_running_stats=False),
    ],
    ids=lambda norm: type(norm).__name__,
)
def test_every_kind_of_norm_has_a_scale(norm):
    assert scales(norm) == {"norm.weight"}


def test_a_norm_without_parameters_has_none():
    assert scales(nn.BatchNorm2d(4, affine=False)) == frozenset()
    assert scales(nn.LayerNorm(5, elementwise_affine=False)) == frozenset()


def test_a_scale_over_several_dimensions_is_none_of_channels():
    assert scales(nn.LayerNorm((5, 5))) == frozenset()


class Written(nn.Module):
    """An RMS norm written out, with the scale before or behind the value."""

    def __init__(self, first):
        super().__init__()
        self.scale, self.shift, self.first = nn.Parameter(torch.ones(5)), nn.Parameter(torch.zeros(5)), first

    def forward(self, x):
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
        return (self.scale * x if self.first else x * self.scale) + self.shift


@pytest.mark.parametrize("first", [True, False])
def test_a_norm_that_is_written_out_is_found_by_its_product(first):
    assert scales(Written(first), (2, 3, 5)) == {"norm.scale"}


def test_norms_are_counted_and_not_their_parameters():
    twice = nn.LayerNorm(5)
    program = sp.capture(nn.Sequential(nn.Linear(5, 5), twice, nn.ReLU(), twice, nn.RMSNorm(5), Written(True)),
                         (torch.randn(2, 5),))  # fmt: skip
    assert norms(program) == [("1.weight", "1.bias"), ("4.weight",), ("5.scale",)]


def test_a_masked_scale_is_still_one():
    _, program = wired(lambda s, x: s.norm(x), (torch.randn(2, 4, 5, 5),), norm=nn.BatchNorm2d(4))
    mask = torch.tensor([True, False, True, True])
    assert norm_scales(masked(program, {"norm.weight": mask, "norm.bias": mask})) == {"norm.weight"}


def test_all_scales_of_families_are_found():
    for name, count in (("llama", 5), ("bert", 5), ("resnet-basic", None)):
        model, args, kwargs = FAMILIES[name]()
        found = norm_scales(sp.capture(model, args, kwargs))
        expected = {key for key in dict(model.named_parameters()) if "norm" in key.lower() and key.endswith("weight")}
        assert found == expected
        assert count is None or len(found) == count


def test_scales_and_shifts():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4))
    program = sp.capture(model, (torch.randn(2, 3, 5, 5),))
    assert norm_parameters(program) == {"1.weight", "1.bias", "2.weight", "2.bias"}


def test_batch_statistics_are_those_of_training_in_both_modes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5))
    x = torch.randn(4, 2, 6, 6) + 1
    program = with_batch_statistics(sp.capture(model, (x,)))
    assert not program.buffers.keys() & {"1.running_mean", "1.running_var"}
    expected = model[2](nn.BatchNorm2d(3).train()(model[0](x)))
    torch.testing.assert_close(program.module()(x), expected)


def test_scores_with_batch_statistics_are_those_of_a_training_step():
    """The masks of SNIP, |g θ| computed with the module in training mode, as the paper's code does."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    task = Regression(inputs=(6,), outputs=3)
    batch = next(iter(task.batches("train", seed=0)))
    program = sp.capture(model, (torch.randn(4, 6),))
    loss = task.loss(model.train(), batch)
    names = ["0.weight", "3.weight"]
    weights = [model.get_parameter(name) for name in names]
    scores = [(w * g).abs().flatten() for w, g in zip(weights, torch.autograd.grad(loss, weights), strict=True)]
    kept = torch.cat(scores).topk(36).indices  # half of 48 + 24
    expected = torch.zeros(72, dtype=torch.bool)
    expected[kept] = True
    options = "sparsity=0.5,criterion=snip,batches=1,allow_collapse=yes"
    found, running = (sp.run(program, [f"weight-prune:{options},norms={norms}"], task).program
                      for norms in ("batch", "running"))  # fmt: skip
    assert torch.equal(torch.cat([found.masks[name].flatten() for name in names]), expected)
    assert not all(torch.equal(found.masks[name], running.masks[name]) for name in names)
    assert "1.running_mean" in found.buffers
