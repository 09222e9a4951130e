"""nm_linear: the dense layer, forward and backward, of every shape, and well-behaved in torch."""

from functools import partial

import pytest
import torch
from helpers.matrices import kept_only, nm_mask
from helpers.sparse_linear import SparseLinear, assert_close
from torch.nn import functional as F

from sparsify.formats.nm import Nm
from sparsify.kernels.nm_linear import nm_linear


class TestNmLinear(SparseLinear):
    operator = nm_linear

    def mask(self, shape, density):
        return nm_mask(shape, 2, 4)

    def stored(self, weight, mask):
        found = Nm.encode(weight, mask, 2, 4)
        return found.values, found.codes

    def taken(self, matrix, mask):
        """Every stored value has a gradient, also one that fills up its group."""
        places = Nm.encode(matrix, mask, 2, 4).places().view(len(matrix), -1, 2)
        groups = matrix.view(len(matrix), -1, 4)
        return groups.gather(2, places).flatten(1)


@pytest.mark.parametrize(("n", "m"), [(1, 2), (1, 4), (4, 8), (3, 5), (5, 16), (2, 20)])
@pytest.mark.parametrize("shape", [(6, 40), (9, 37), (1, 3)])
def test_other_patterns(shape, n, m):
    generator = torch.Generator().manual_seed(0)
    mask = nm_mask(shape, n, m)
    weight, x = kept_only(torch.randn(shape, generator=generator), mask), torch.randn(7, shape[1], generator=generator)
    found = Nm.encode(weight, mask, n, m)
    values = found.values.clone().requires_grad_()
    out = partial(nm_linear, n=n, m=m)(x, values, found.codes)
    assert_close(out, F.linear(x.double(), weight.double()))
    out.sum().backward()
    assert values.grad.shape == values.shape
