"""Kept weights with their columns on GPUs: numerics in Triton's interpreter, machine code ahead of time."""

import pytest
import torch
from helpers.marks import some
from helpers.matrices import mask_of
from torch.nn import functional as F

from sparsify.formats.index import Index

pytest.importorskip("triton", reason="there are no GPU kernels without Triton")

from helpers.ahead import ARCHITECTURES, compiled
from helpers.interpreted import Interpreted

from sparsify.kernels._index_decode import PLANS, index_decode

ACTIVATIONS = {"none": lambda z: z, "relu": torch.relu, "gelu": F.gelu, "silu": F.silu}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("shape", "batch"), [((70, 100), 1), ((33, 64), 3), ((64, 257), 8), ((5, 1), 2)])
def test_it_is_the_dense_layer(shape, batch, activation, dtype):
    kernels = Interpreted("_index_decode")
    generator = torch.Generator().manual_seed(0)
    for density in (0.0, 0.2, 1.0):
        mask = mask_of(shape, density)
        weight = torch.where(mask, torch.randn(shape, generator=generator), 0.0).to(dtype)
        x, bias = (torch.randn(*size, generator=generator).to(dtype) for size in ((batch, shape[1]), (shape[0],)))
        found = Index.encode(weight, mask)
        stored = kernels.arranged(found.values, found.columns, found.offsets, shape[1])
        for given in (bias, None):
            out = kernels.multiply(x, stored, shape[0], given, activation, kernels.Plan(4, 8))
            wide = None if given is None else given.double()
            expected = ACTIVATIONS[activation](F.linear(x.double(), weight.double(), wide))
            rounding = torch.finfo(dtype).eps * max(1.0, float(expected.abs().max()))
            assert out.dtype == dtype
            assert torch.allclose(out.double(), expected, rtol=0, atol=rounding)


def test_what_fills_rows_up_does_not_read_the_input():
    kernels = Interpreted("_index_decode")
    weight = torch.eye(3, 8).bfloat16()
    found = Index.encode(weight, weight > 0)
    x = torch.full((1, 8), torch.inf).bfloat16()
    stored = kernels.arranged(found.values, found.columns, found.offsets, 8)
    assert torch.equal(kernels.multiply(x, stored, 3, None, "none", kernels.Plan(4, 8)), x[:, :3])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("plan", some(PLANS[:1], PLANS), ids=str)
@pytest.mark.parametrize("most", [1, 8])
def test_words_are_loaded_four_at_a_time(most, plan, architecture):
    signature = dict.fromkeys(("x", "words", "begins", "bias", "out"), "*bf16") | {
        "words": "*i32",
        "begins": "*i32",
    }
    signature |= dict.fromkeys(("rows", "batch", "empty"), "i32")
    constants = {"half": False, "biased": True, "activation": "relu", "most": most, "block": plan.block}
    aligned = ("x", "words", "begins", "bias", "out", "rows", "empty")
    found = compiled(index_decode, signature, constants, aligned, architecture, plan.warps)
    assert (found.stack, found.shared <= ARCHITECTURES[architecture]) == (0, True)
    loop = found.loop(r"LDG\.E\.128")
    kept = 4 * max(1, plan.block // plan.warps)  # that a thread has in one round
    loads = [text for text in loop if "LDG.E.128" in text]
    assert len(loads) == kept // 4 + (kept if most == 8 else 0)
    if most == 1:
        assert len(loop) / kept <= 20  # instructions for each kept weight: 2 for each dense one at 90%
