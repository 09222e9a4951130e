import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsify.coding.rice import coded, decoded


def there_and_back(mask):
    k, code = coded(mask)
    assert torch.equal(decoded(code, k, int(mask.sum()), mask.shape), mask)
    return k, code


def test_the_code_written_out():
    """Before the kept places 1 and 9 there are 1 and 7 others, 2 behind them: 1, 7 and 2 with one bit stored as it is
    are 1, 1, 0 and in unary 1, 0001, 01."""
    mask = torch.zeros(12, dtype=torch.bool)
    mask[[1, 9]] = True
    k, code = there_and_back(mask)
    assert k == 1
    assert code.tolist() == [0b011, 0b1010001]


@given(st.lists(st.booleans(), max_size=300))
@settings(deadline=None)
def test_every_mask_comes_back(bits):
    there_and_back(torch.tensor(bits, dtype=torch.bool))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (7, 5, 3), (4096, 33)])
@pytest.mark.parametrize("share", [0.0, 1e-4, 0.5, 1.0])
def test_every_shape_comes_back(shape, share):
    there_and_back(torch.rand(shape, generator=torch.Generator().manual_seed(0)) < share)


@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_random_masks_take_little_more_than_their_entropy(sparsity):
    mask = torch.rand(1 << 18, generator=torch.Generator().manual_seed(1)) < 1 - sparsity
    p = float(mask.float().mean())
    entropy = -p * math.log2(p) - (1 - p) * math.log2(1 - p)
    bits = 8 * len(there_and_back(mask)[1]) / len(mask)
    assert bits < (1.26 if sparsity == 0.5 else 1.035) * entropy  # at half, one bit for each place is the better form


@pytest.mark.parametrize("change", [
    lambda code, kept, shape: (code[:-1], kept, shape),
    lambda code, kept, shape: (torch.cat([code, code[:1]]), kept, shape),
    lambda code, kept, shape: (code, kept + 1, shape),
    lambda code, kept, shape: (code, kept - 1, shape),
    lambda code, kept, shape: (code, kept, (shape[0] + 1,)),
    lambda code, kept, shape: (code, kept, (10**15,)),
    lambda code, kept, shape: (code[:0], kept, shape),
    lambda code, kept, shape: (code.int(), kept, shape),
])  # fmt: skip
def test_what_does_not_fit_is_refused(change):
    mask = torch.rand(1000, generator=torch.Generator().manual_seed(2)) < 0.1
    k, code = coded(mask)
    with pytest.raises(ValueError, match="code"):
        decoded(change(code, int(mask.sum()), mask.shape)[0], k, *change(code, int(mask.sum()), mask.shape)[1:])
    with pytest.raises(ValueError, match="11 lowest bits"):
        decoded(code, 11, int(mask.sum()), mask.shape)
