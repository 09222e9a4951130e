"""Weights with masks as bits on GPUs: pairs in the order of the lanes, and decoding that memory leaves time for."""

import re

import numpy as np
import pytest
import torch
from helpers.marks import some
from helpers.matrices import mask_of
from helpers.tensor_cores import mma, result, staged

pytest.importorskip("triton", reason="there are no GPU kernels without Triton")

from helpers.ahead import ARCHITECTURES, compiled, decoding

from sparsify.kernels import _bitmask_decode
from sparsify.kernels._bitmask_decode import PLANS, arranged, bitmask_decode

EVERY = [(tiles, plan) for tiles in PLANS for plan in PLANS[tiles]]
FIRST = [(tiles, PLANS[tiles][0]) for tiles in (min(PLANS), max(PLANS))]


def unpacked(pairs, bits, before, begin):
    """Read the words as the kernel does: `[tiles, steps, 2, 32, 4, 2]`."""
    tiles, steps = bits.shape[:2]
    found = torch.zeros(tiles, steps, 2, 32, 4, 2, dtype=torch.bfloat16)
    for tile, step, lane in np.ndindex(tiles, steps, 32):
        word = int(bits[tile, step, lane // 4]) & 0xFFFFFFFF
        shift = 8 * (lane % 4)
        at = int(begin[tile, step]) + int(before[tile, step, lane // 4]) + (word & ((1 << shift) - 1)).bit_count()
        for bit in range(8):
            if word >> shift >> bit & 1:
                found[tile, step, bit // 4, lane, bit % 4] = pairs[at : at + 1].view(torch.bfloat16)
                at += 1
    return found


@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(16, 32), (5, 3), (37, 100), (48, 65)])
def test_tensor_cores_multiply_with_what_is_stored(shape, density):
    generator = torch.Generator().manual_seed(0)
    mask = mask_of(shape, density)
    weight = torch.where(mask, torch.randn(shape, generator=generator), 0.0).bfloat16()
    x = torch.randn(8, shape[1], generator=generator)
    numbers = unpacked(*arranged(mask, weight)).double().numpy()
    tiles, steps = numbers.shape[:2]
    given = staged(np.pad(x.numpy(), ((0, 0), (0, 32 * steps - shape[1]))).astype(np.float64), 1)[:, 0]
    found = np.zeros((16 * tiles, 8))
    for tile in range(tiles):
        c = np.zeros((32, 4))
        for step in range(steps):
            for half in range(2):
                c = mma(numbers[tile, step, half], given[step][:, 2 * half : 2 * half + 2], c)
        found[16 * tile : 16 * tile + 16] = result(c)
    assert np.allclose(found[: shape[0]], weight.double().numpy() @ x.double().numpy().T, atol=1e-5)


def test_pairs_that_would_cross_a_carry_are_moved(monkeypatch):
    values = torch.arange(1000, dtype=torch.int32)
    assert _bitmask_decode._unbroken(values) is values

    class Far:
        """A tensor just below an address that is a multiple of 2^32."""

        nbytes = 4000

        def data_ptr(self):
            return (7 << 32) - 2000

        def numel(self):
            return 1000

        def element_size(self):
            return 4

        def new_empty(self, count):
            return torch.empty(count, dtype=torch.int32)

    monkeypatch.setattr(torch.Tensor, "copy_", lambda target, source: target)
    moved = _bitmask_decode._unbroken(Far())
    assert moved.data_ptr() >> 32 == (moved.data_ptr() + 4000) >> 32
    assert moved.shape == (1000,)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("planned", some(FIRST, EVERY), ids=str)
def test_decoding_is_cheap(planned, architecture):
    tiles, plan = planned
    weight = {"pairs": "*i32", "bits": "*i32", "before": "*u8", "begin": "*i32"}
    found = compiled(bitmask_decode, *decoding(weight, plan, tiles), architecture, plan.warps)
    assert (found.stack, found.shared <= ARCHITECTURES[architecture]) == (0, True)
    assert plan is not PLANS[tiles][0] or found.shared <= 101376  # what the smallest of these GPUs has
    loop = found.loop("HMMA")
    products = sum("HMMA.16816.F32.BF16" in text for text in loop)
    assert products == 2 * plan.steps * plan.row_tiles * tiles
    assert not any(re.search(r"\bSTS", text) for text in loop)
    assert len(loop) / (8 * products / tiles) <= 7  # instructions for each dense weight


def test_in_float16():
    weight = {"pairs": "*i32", "bits": "*i32", "before": "*u8", "begin": "*i32"}
    found = compiled(bitmask_decode, *decoding(weight, PLANS[1][0], 1, "relu", "f16"), 90, PLANS[1][0].warps)
    assert found.stack == 0
    assert found.count(r"HMMA\.16816\.F32 ") > 0
