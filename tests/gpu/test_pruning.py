"""Pruning on a GPU keeps what pruning on the CPU keeps, and everything stays on the device."""

import pytest
import torch
from helpers.given import parts
from helpers.models import ConvNet
from torch import nn

import sparsify as sp
from sparsify.observation.calibration import Calibration
from sparsify.reconstruction.outputs import output_gap
from sparsify.sensitivity import scan

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
PASSES = [
    "weight-prune:sparsity=0.8",
    "weight-prune:sparsity=0.8,criterion=wanda",
    "weight-prune:sparsity=0.8,criterion=obs",
    "weight-prune:sparsity=0.8,criterion=snip",
    "weight-prune:sparsity=0.8,criterion=taylor,allocation=erk",
    "weight-prune:sparsity=0.5,criterion=iterative-snip,rounds=3",
    "weight-prune:pattern=2:4,protect=0*",
    "weight-prune:pattern=block4x4,sparsity=0.5",
    "channel-prune:sparsity=0.4",
    "channel-prune:sparsity=0.4,criterion=taylor-activation",
]
FURTHER = [
    "reconstruct", "reconstruct:method=obs", "reconstruct:method=bias", "recalibrate-norm",
    "share-weights:bits=4", "sanity:control=shuffle", "sanity:control=random",
]  # fmt: skip


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 8),
    ).eval()  # fmt: skip


def given():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 4, 8, 8, generator=generator)
    return parts(x, torch.randint(0, 8, (64,), generator=generator), count=4)[0]


def program_on(device):
    return sp.capture(network().to(device), (torch.randn(2, 4, 8, 8, device=device),))


def assert_on(program, device):
    tensors = {**program.parameters, **program.buffers, **program.masks}
    assert {value.device.type for value in tensors.values()} == {device}


@pytest.mark.parametrize("spec", PASSES)
def test_the_same_weights_go(spec):
    here, there = (sp.run(program_on(device), [spec], task=given()).program for device in ("cpu", DEVICE))
    assert_on(there, DEVICE)
    assert here.masks.keys() == there.masks.keys()
    for name, mask in here.masks.items():
        other = there.masks[name].cpu()
        assert int(mask.sum()) == pytest.approx(int(other.sum()), abs=0.01 * mask.numel())
        assert float((mask == other).float().mean()) > 0.97, name  # scores differ by rounding alone


@pytest.mark.parametrize("spec", FURTHER)
def test_what_comes_after_pruning(spec):
    result = sp.run(program_on(DEVICE), ["weight-prune:sparsity=0.6,scope=layer", spec], task=given())
    assert_on(result.program, DEVICE)


def test_reconstruction_helps_there_too():
    whole = program_on(DEVICE)
    pruned = sp.run(whole, ["weight-prune:sparsity=0.7,scope=layer"]).program
    refitted = sp.run(pruned, ["reconstruct"], task=given()).program
    calibration = Calibration(given())
    assert output_gap(whole, refitted, calibration) < 0.7 * output_gap(whole, pruned, calibration)


def test_a_scan_measures_the_same():
    here, there = (scan(program_on(device), given(), sparsities=(0.5, 0.9)) for device in ("cpu", DEVICE))
    assert here.layers.keys() == there.layers.keys()
    for name, values in here.layers.items():
        assert values == pytest.approx(there.layers[name], rel=0.02, abs=1e-4)


def test_a_convolutional_network_is_shrunk():
    model = ConvNet().eval().to(DEVICE)
    program = sp.capture(model, (torch.randn(2, 3, 8, 8, device=DEVICE),))
    result = sp.run(program, ["channel-prune:sparsity=0.5", "shrink"])
    assert_on(result.program, DEVICE)
