"""Tiles on GPUs: numerics in Triton's interpreter, forward and backward, machine code ahead of time."""

import pytest
import torch
from helpers.marks import some
from helpers.matrices import mask_of
from torch.nn import functional as F

from sparsify.formats.block import BlockRows

pytest.importorskip("triton", reason="there are no GPU kernels without Triton")

import triton
from helpers.ahead import ARCHITECTURES, compiled
from helpers.interpreted import Interpreted

from sparsify.kernels._block_products import PLANS, block_gradients, block_products

TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3}


def given(shape, batch, tile, dtype, density=0.02):
    generator = torch.Generator().manual_seed(0)
    weight, mask = torch.randn(shape, generator=generator).to(dtype), mask_of(shape, density)
    stored = BlockRows.encode(weight, mask, *tile)
    x, g, bias = (torch.randn(size, generator=generator).to(dtype) for size in (
        (batch, shape[1]), (batch, shape[0]), (shape[0],)))  # fmt: skip
    return stored, x, g, bias


def close(found, expected):
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    return found.shape == expected.shape and torch.allclose(
        found.double(), expected, rtol=0, atol=TOLERANCE[found.dtype] * scale
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("split", [1, 3])
@pytest.mark.parametrize(("shape", "batch", "tile"), [
    ((70, 100), 5, (16, 32)), ((64, 64), 33, (32, 16)), ((17, 40), 1, (16, 16)),
])  # fmt: skip
def test_forward_and_backward(shape, batch, tile, split, dtype):
    kernels = Interpreted("_block_products")
    stored, x, g, bias = given(shape, batch, tile, dtype)
    weight = stored.decode().double()
    plan = kernels.Plan(16, 4, 3, split)
    out = kernels.multiply(x, stored.values, (None, stored.columns, stored.offsets), shape[0], bias, "silu", plan)
    assert close(out, F.silu(F.linear(x.double(), weight, bias.double())))
    index = kernels.transposed(stored.columns, stored.offsets, -(-shape[1] // tile[1]))
    of_x = kernels.multiply(g, stored.values, index, shape[1], None, "none", plan, backward=True)
    assert close(of_x, g.double() @ weight)
    of_tiles = kernels.gradients(g, x, stored.rows().int(), stored.columns, *tile)
    every = BlockRows.encode(g.double().t() @ x.double(), torch.ones(shape, dtype=torch.bool), *tile)
    across = -(-shape[1] // tile[1])
    assert close(of_tiles, every.values[stored.rows() * across + stored.columns])


def test_a_weight_without_tiles_is_the_bias():
    kernels = Interpreted("_block_products")
    stored, x, _, bias = given((32, 32), 4, (16, 16), torch.float32, density=0.0)
    out = kernels.multiply(
        x, stored.values, (None, stored.columns, stored.offsets), 32, bias, "none", kernels.Plan(16, 4)
    )
    assert torch.equal(out, bias.expand(4, 32))


POINTERS = dict.fromkeys(("x", "values", "order", "places", "offsets", "bias", "out"), "*bf16")
POINTERS |= dict.fromkeys(("order", "places", "offsets"), "*i32")
SIZES = dict.fromkeys(("batch", "inputs", "outputs"), "i32")
EVERY = sorted({*PLANS["few"], *PLANS["many"]}, key=str)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tile", some([64], [32, 64, 128]))
@pytest.mark.parametrize("plan", some([PLANS["few"][0], PLANS["many"][0]], EVERY), ids=str)
@pytest.mark.parametrize("backward", [False, True])
def test_the_machine_code_of_products(backward, plan, tile, architecture):
    constants = {
        "biased": not backward, "activation": "none", "ordered": backward, "partial": plan.split > 1,
        "split": plan.split, "tile_batch": plan.batch, "tile_out": tile, "tile_in": tile,
        "stride_out": 1 if backward else tile, "stride_in": tile if backward else 1,
    }  # fmt: skip
    aligned = (*POINTERS, "inputs", "outputs")
    found = compiled(block_products, POINTERS | SIZES, constants, aligned, architecture, plan.warps, stages=plan.stages)
    assert (found.stack, found.shared <= ARCHITECTURES[architecture]) == (0, True)
    assert found.count("HGMMA" if architecture == 90 and plan.batch >= 64 else "HMMA") > 0
    assert found.count("LDGSTS") > 0  # tiles are under way while others are multiplied


def test_more_stages_are_more_tiles_under_way():
    signature, aligned = POINTERS | SIZES, (*POINTERS, "inputs", "outputs")
    constants = {
        "biased": False, "activation": "none", "ordered": False, "partial": False, "split": 1, "tile_batch": 64,
        "tile_out": 64, "tile_in": 64, "stride_out": 64, "stride_in": 1,
    }  # fmt: skip
    three, five = (compiled(block_products, signature, constants, aligned, 90, 4, stages=count) for count in (3, 5))
    pair = 2 * 2 * 64 * 64  # bytes of a tile and of what it multiplies
    assert (three.shared // pair, five.shared // pair) == (2, 3)


def test_float32_does_not_spill():
    spilled = 8 if triton.__version__.startswith("3.6.") else 0  # one plan's two registers, in no other type
    floats = {name: kind.replace("bf16", "fp32") for name, kind in POINTERS.items()}
    for plan in EVERY:
        constants = {
            "biased": plan.split == 1, "activation": "none", "ordered": False, "partial": plan.split > 1,
            "split": plan.split, "tile_batch": plan.batch, "tile_out": 64, "tile_in": 64, "stride_out": 64,
            "stride_in": 1,
        }  # fmt: skip
        aligned = (*POINTERS, "inputs", "outputs")
        found = compiled(block_products, floats | SIZES, constants, aligned, 90, plan.warps, stages=plan.stages)
        assert (found.stack <= spilled, found.shared <= ARCHITECTURES[90]) == (True, True), plan


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tile", some([64], [32, 64, 128]))
def test_the_machine_code_of_gradients(tile, architecture):
    signature = dict.fromkeys(("upstream", "x", "rows", "columns", "out"), "*bf16") | SIZES
    signature |= {"rows": "*i32", "columns": "*i32"}
    constants = {"tile_batch": 64, "height": tile, "width": tile}
    aligned = ("upstream", "x", "rows", "columns", "out", "inputs", "outputs")
    found = compiled(block_gradients, signature, constants, aligned, architecture, 8 if tile == 128 else 4)
    assert (found.stack, found.shared <= ARCHITECTURES[architecture]) == (0, True)
    assert found.count("HGMMA" if architecture == 90 and tile >= 64 else "HMMA") > 0
