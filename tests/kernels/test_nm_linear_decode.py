"""2:4 on GPUs: what is stored is what sparse tensor cores multiply with, and the machine code is what was planned."""

import re

import numpy as np
import pytest
import torch
from helpers.marks import some
from helpers.matrices import nm_mask
from helpers.tensor_cores import mma_sp, result, staged

from sparsify.formats.nm import Nm

pytest.importorskip("triton", reason="there are no GPU kernels without Triton")

from helpers.ahead import ARCHITECTURES, compiled, decoding

from sparsify.kernels._nm_decode import PLANS, arranged, nm_decode

EVERY = [(tiles, plan) for tiles in PLANS for plan in PLANS[tiles]]
FIRST = [(tiles, PLANS[tiles][0]) for tiles in (min(PLANS), max(PLANS))]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(16, 64), (5, 3), (37, 100), (48, 65), (20, 132), (16, 70)])
def test_tensor_cores_multiply_with_what_is_stored(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    weight, mask = torch.randn(shape, generator=generator).to(dtype), nm_mask(shape, 2, 4)
    stored = Nm.encode(weight, mask, 2, 4)
    x = torch.randn(8, shape[1], generator=generator)
    values, places = arranged(stored.values, stored.codes, shape[1])
    tiles, steps = values.shape[:2]
    given = staged(np.pad(x.numpy(), ((0, 0), (0, 64 * steps - shape[1]))).astype(np.float64), 2)
    numbers = values.view(dtype).double().numpy().reshape(tiles, steps, 2, 32, 4, 2)
    found = np.zeros((16 * tiles, 8))
    for tile in range(tiles):
        c = np.zeros((32, 4))
        for step in range(steps):
            for half in range(2):
                c = mma_sp(numbers[tile, step, half], given[step, half], c, places[tile, step].numpy(), half)
        found[16 * tile : 16 * tile + 16] = result(c)
    dense = torch.where(mask, weight, 0.0).double()
    assert np.allclose(found[: shape[0]], dense.numpy() @ x.double().numpy().T, atol=1e-5)
    assert not found[shape[0] :].any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("planned", some(FIRST, EVERY), ids=str)
def test_nothing_is_decoded(planned, architecture):
    tiles, plan = planned
    weight = {"values": "*i32", "places": "*i32"}
    found = compiled(nm_decode, *decoding(weight, plan, tiles), architecture, plan.warps)
    assert (found.stack, found.shared <= ARCHITECTURES[architecture]) == (0, True)
    assert plan is not PLANS[tiles][0] or found.shared <= 101376  # what the smallest of these GPUs has
    loop = found.loop(r"HMMA\.SP")
    products = sum("HMMA.SP.16832.F32.BF16" in text for text in loop)
    assert products == 2 * plan.steps * plan.row_tiles * tiles
    assert sum("LDG.E.128" in text for text in loop) == 2 * plan.steps * plan.row_tiles
    assert not any(re.search(r"\bSTS", text) for text in loop)  # the weight does not pass through shared memory
    assert len(loop) / (16 * products / tiles) <= 5  # instructions for each dense weight


@pytest.mark.parametrize("activation", ["none", "relu", "silu"])
def test_in_float16_with_every_activation(activation):
    weight = {"values": "*i32", "places": "*i32"}
    found = compiled(nm_decode, *decoding(weight, PLANS[1][0], 1, activation, "f16"), 90, PLANS[1][0].warps)
    assert found.stack == 0
    assert found.count(r"HMMA\.SP\.16832\.F32 ") > 0
