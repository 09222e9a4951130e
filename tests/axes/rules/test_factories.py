import pytest
import torch
from helpers.axes import case, prove
from torch import nn

SUMMED = ([3], [2])  # what is free where values that are not zero at a removed index are summed over a dimension of two


def summed(x):
    return x.view(-1, 2, 3).sum(1)


CASES = {
    "zeros": case(lambda s, x: torch.cat([x, torch.zeros(x.shape[0], 4)], 1), 6, [6, 4]),
    "zeros by keyword": case(lambda s, x: summed(x + torch.zeros(size=(6,))), 6, [2, 3]),
    "zeros of a shape": case(lambda s, x: summed(x + torch.zeros(x.shape)), 6, [2, 3]),
    "ones": case(lambda s, x: summed(x + torch.ones(6)), 6, *SUMMED),
    "ones that nobody meets": case(lambda s, x: x * torch.ones(6).sum(), 6, [6]),
    "full": case(lambda s, x: summed(x + torch.full((6,), 2.0)), 6, *SUMMED),
    "full of zeros": case(lambda s, x: summed(x + torch.full(size=(6,), fill_value=0.0)), 6, [2, 3]),
    "empty, filled": case(lambda s, x: summed(x + torch.empty(6).fill_(2.0)), 6, *SUMMED),
    "empty, filled with zeros": case(lambda s, x: summed(x + torch.empty(6).fill_(0)), 6, [2, 3]),
    "empty, zeroed": case(lambda s, x: summed(x + torch.empty(6).zero_()), 6, [2, 3]),
    "new_zeros": case(lambda s, x: summed(x + x.new_zeros(x.shape)), 6, [2, 3]),
    "new_ones": case(lambda s, x: summed(x + x.new_ones(6)), 6, *SUMMED),
    "new_full": case(lambda s, x: summed(x + x.new_full((6,), 2.0)), 6, *SUMMED),
    "new_full of zeros": case(lambda s, x: summed(x + x.new_full((6,), 0)), 6, [2, 3]),
    "zeros_like": case(lambda s, x: summed(x + torch.zeros_like(x)), 6, [2, 3]),
    "ones_like": case(lambda s, x: summed(x + torch.ones_like(x)), 6, *SUMMED),
    "full_like": case(lambda s, x: summed(x + torch.full_like(x, fill_value=2)), 6, *SUMMED),
    "full_like zeros": case(lambda s, x: summed(x + torch.full_like(x, 0)), 6, [2, 3]),
    "arange": case(lambda s, x: x * torch.arange(6), 6),
    "linspace": case(lambda s, x: x * torch.linspace(0, 1, 6), 6),
    "eye": case(lambda s, x: x @ torch.eye(6, dtype=x.dtype), 6),
    "scalar_tensor": case(lambda s, x: x * torch.scalar_tensor(3.0), 6, [6]),
    "a size that is a number": case(lambda s, x: x * x.size(1), 6, [6]),
    "the batch size": case(lambda s, x: x / x.shape[0], 6, [6]),
    "the number of elements": case(lambda s, x: x / x.numel(), 6, [6]),
    "expanded to the batch size": case(
        lambda s, x: s.p.expand(x.size(0), -1) * x, 6, [6], p=nn.Parameter(torch.ones(1, 6))),
    "noise": case(lambda s, x: x * (torch.rand(6) < 2), 6, [6]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_free_can_go(name):
    case = CASES[name]
    assert prove(case) == (case.exact, case.inexact)
