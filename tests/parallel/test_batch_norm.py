"""Batch norm over ranks is that of one process over the whole batch, gradients included."""

import pytest
import torch
from helpers.rank_jobs import of_norms
from helpers.ranks import together
from torch.testing import assert_close


@pytest.mark.parametrize("shape", [(7, 3), (7, 3, 4, 5)], ids=["rows", "images"])
def test_unequal_shares_and_one_that_counts_for_nothing(shape):
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(shape, generator=generator) * 3 + 1
    upstream = torch.randn(shape, generator=generator)
    whole = value.clone().requires_grad_()
    scale, mean, variance = torch.full((3,), 1.5), torch.zeros(3), torch.ones(3)
    expected = torch.nn.functional.batch_norm(whole, mean, variance, scale, scale - 1, True, 0.1, 1e-5)
    expected.backward(upstream)
    spare = value[:1] * 5  # a rank without examples takes part with one
    values, ups = [value[:5], value[5:], spare], [upstream[:5], upstream[5:], torch.zeros_like(spare)]
    found = together(3, of_norms, values, ups, [1.0, 1.0, 0.0])
    assert_close(torch.cat([found[0][0], found[1][0]]), expected.detach())
    assert_close(torch.cat([found[0][1], found[1][1]]), whole.grad)
    for one in found:
        assert_close(one[2], mean)
        assert_close(one[3], variance)
