"""bitmask_linear: the dense layer, forward and backward, of every shape, and well-behaved in torch."""

from helpers.sparse_linear import SparseLinear
from sparsify.kernels.bitmask_linear import bitmask_linear

from sparsify.formats.bitmask import Bitmask


class TestBitmaskLinear(SparseLinear):
    operator = bitmask_linear

    def stored(self, weight, mask):
        found = Bitmask.encode(weight, mask)
        return found.values, found.bits, found.offsets
