"""Training on a GPU: sparse to the last bit, on the device throughout, and the same whether interrupted or not."""

import pytest
import torch
from helpers.sparse import Clusters
from torch import nn

import sparsify as sp

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
LTH = [
    "rounds=2,rate=0.5",
    "rounds=2,rate=0.5,rewind=2it,controls=reinit,random",
    "rounds=1,rate=0.5,unit=channels",
    "rounds=1,pattern=2:4",
]
DST = ["static", "set", "rigl", "snfs", "dsr", "deepr", "srigl", "gmp"]


def program_of():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4))
    return sp.capture(model.to(DEVICE), (torch.randn(4, 12, device=DEVICE),))


class OnDevice(Clusters):
    """The same clouds of points, scored where the model is."""

    def batches(self, split, *, seed=0):
        return [(x.to(DEVICE), y.to(DEVICE)) for x, y in super().batches(split, seed=seed)]


def assert_on_device(program):
    tensors = {**program.parameters, **program.buffers, **program.masks}
    assert {value.device.type for value in tensors.values()} == {DEVICE}


def assert_sparse(program):
    assert_on_device(program)
    for name, mask in program.masks.items():
        assert not program.parameters[name][~mask].any()


@pytest.mark.parametrize("options", LTH)
def test_tickets(options):
    result = sp.retrain(program_of(), f"lth:steps=8it,audit=yes,{options}", OnDevice())
    assert_sparse(result.program)
    assert_on_device(result.ticket.apply(program_of()))


@pytest.mark.parametrize("method", DST)
def test_sparse_from_the_first_step(method):
    every = "" if method == "static" else f",every={'1it' if method == 'deepr' else '4it'}"
    result = sp.retrain(program_of(), f"dst:method={method},sparsity=0.8,steps=20it,audit=yes{every}", OnDevice())
    assert_sparse(result.program)
    total = sum(mask.numel() for mask in result.program.masks.values())
    kept = sum(int(mask.sum()) for mask in result.program.masks.values())
    assert kept == pytest.approx(0.2 * total, abs=0.05 * total if method == "srigl" else 2)  # whole inputs a row


@pytest.mark.parametrize("options", ["optimizer=sgd", "optimizer=adamw", "precision=bf16", "precision=fp16", "clip=1"])
def test_the_same_call_ends_with_the_same_bits(options, tmp_path):
    spec = f"dst:method=rigl,sparsity=0.8,steps=20it,every=4it,audit=yes,{options}"
    one, other = (sp.retrain(program_of(), spec, OnDevice(), work=work).program for work in (None, tmp_path))
    again = sp.retrain(program_of(), spec, OnDevice(), work=tmp_path).program  # read back
    for name, value in one.parameters.items():
        assert torch.equal(value, other.parameters[name])
        assert torch.equal(value, again.parameters[name])


def test_a_loop_of_its_own():
    program = sp.run(program_of(), ["weight-prune:sparsity=0.8"]).program
    module = program.module(training=True)
    optimizer = torch.optim.AdamW(module.parameters(), 1e-2)
    sp.MaskController(program).attach(optimizer, module)
    for x, y in OnDevice().batches("train"):
        nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert_sparse(program.with_state(module))
