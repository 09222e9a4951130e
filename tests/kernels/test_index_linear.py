"""index_linear: the dense layer, forward and backward, of every shape, and well-behaved in torch."""

from helpers.sparse_linear import SparseLinear
from sparsify.kernels.index_linear import index_linear

from sparsify.formats.index import Index


class TestIndexLinear(SparseLinear):
    operator = index_linear

    def stored(self, weight, mask):
        found = Index.encode(weight, mask)
        return found.values, found.columns, found.offsets
