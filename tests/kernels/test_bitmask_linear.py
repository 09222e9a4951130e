"""bitmask_linear: the dense layer, forward and backward, of every shape, and well-behaved in torch."""

import pytest
import torch
from helpers.sparse_linear import SparseLinear

from sparsify.formats.bitmask import Bitmask
from sparsify.kernels.bitmask_linear import bitmask_linear


class TestBitmaskLinear(SparseLinear):
    operator = bitmask_linear

    def stored(self, weight, mask):
        found = Bitmask.encode(weight, mask)
        return found.values, found.bits, found.offsets


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("damage", ["bit", "behind", "offset", "short"])
def test_damaged_places_are_refused(damage, dtype):
    weight, mask = torch.randn(6, 12, dtype=dtype), torch.rand(6, 12, generator=torch.Generator().manual_seed(0)) < 0.5
    found = Bitmask.encode(weight, mask)
    x, bits, offsets = torch.randn(2, 12, dtype=dtype), found.bits.clone(), found.offsets.clone()
    bitmask_linear(x, found.values, bits, offsets)  # as it should be
    if damage in ("bit", "behind"):
        bits[0, 0 if damage == "bit" else 1] ^= 1 if damage == "bit" else 0x80
    elif damage == "offset":
        offsets[2] += 1000
    with pytest.raises(ValueError, match="stored places do not fit"):
        bitmask_linear(x[:, :4] if damage == "short" else x, found.values, bits, offsets)
