import pytest
import torch
from helpers.axes import case, prove
from torch import nn

from sparsify.axes.op import RULES
from sparsify.axes.rules import load, pointwise

P = nn.Parameter(torch.ones(6))
SLOPES = nn.PReLU(6)
SUMMED = ([3], [2])  # what is free where values that are not zero at a removed index are summed over a dimension of two
load()


def summed(function):
    return lambda s, x: function(s, x).view(-1, 2, 3).sum(1)


def zero(function):
    """The result is zero where x and p are: an index of the dimension that is summed can be masked."""
    return case(summed(function), 6, [2, 3], p=P)


def not_zero(function):
    return case(summed(function), 6, *SUMMED, p=P)


BINARY = {
    "mul": case(lambda s, x: x.view(-1, 2, 3) * s.p, 6, [2, 3], p=nn.Parameter(torch.ones(2, 1))),
    "mul of other ranks": case(lambda s, x: s.p * x[:, None], 6, [4, 6], p=nn.Parameter(torch.ones(1, 4, 6))),
    "mul by a number": zero(lambda s, x: 2 * x),
    "mul by a tensor without dimensions": case(lambda s, x: x * s.p, 6, [6], p=nn.Parameter(torch.tensor(2.0))),
    "mul by what is not zero": zero(lambda s, x: x * (s.p + 1)),
    "multiply": zero(lambda s, x: torch.multiply(x + 1, s.p)),
    "add": zero(lambda s, x: torch.add(x, s.p, alpha=2)),
    "add a number": not_zero(lambda s, x: x + 1),
    "add zero": zero(lambda s, x: x + 0),
    "add what is not zero": not_zero(lambda s, x: x + s.p.exp()),
    "sub": zero(lambda s, x: x - s.p),
    "subtract": zero(lambda s, x: torch.subtract(x, s.p)),
    "sub from a number": not_zero(lambda s, x: 1 - x),
    "sub from zero": zero(lambda s, x: 0 - x),
    "rsub": zero(lambda s, x: torch.rsub(x, s.p)),
    "maximum": zero(lambda s, x: torch.maximum(x, s.p)),
    "hypot": zero(lambda s, x: torch.hypot(x, s.p)),
    "div": case(summed(lambda s, x: x / s.p), 6, [], [2, 3], p=P),
    "div by a number": zero(lambda s, x: x / 2),
    "div by what is not zero": zero(lambda s, x: torch.divide(x, 2 + s.p.abs())),
    "div of a number": case(summed(lambda s, x: 2 / x), 6, [], [2, 3]),
    "floor_divide": zero(lambda s, x: x // 0.3),
    "remainder": zero(lambda s, x: x % 0.3),
    "remainder of a number": not_zero(lambda s, x: 0.7 % (x + 9)),
    "pow": zero(lambda s, x: torch.pow(x, exponent=3)),
    "pow of a negative exponent": case(summed(lambda s, x: x**-1), 6, [], [2, 3]),
    "pow of exponent zero": not_zero(lambda s, x: x**0 + x),
    "pow of a number": not_zero(lambda s, x: 2**x),
    "lerp": case(lambda s, x: x.lerp(x.tanh(), 0.3).view(-1, 2, 3).sum(1), 6, [2, 3]),
    "addcmul": case(lambda s, x: torch.addcmul(x, x.tanh(), x.cos(), value=0.3), 6, [6]),
    "atan2": not_zero(lambda s, x: torch.atan2(x, s.p)),
    "comparison": not_zero(lambda s, x: (x >= s.p).to(x.dtype)),
    "greater": not_zero(lambda s, x: torch.greater(x, s.p).to(x.dtype)),
    "logical_and": not_zero(lambda s, x: ((x > 0) & (s.p > -5)).to(x.dtype)),
    "complement": zero(lambda s, x: ~(x > 0) * x),
}  # fmt: skip

BOUNDED = {
    "clamp": zero(lambda s, x: torch.clamp(x, max=0.3, min=-0.4)),
    "clamp above zero": not_zero(lambda s, x: x.clamp(min=0.1)),
    "clamp below zero": not_zero(lambda s, x: x.clamp(max=-0.1)),
    "clamp by a tensor": not_zero(lambda s, x: torch.clamp(x, max=s.p)),
    "clamp_min": zero(lambda s, x: x.clamp_min(0)),
    "clip": zero(lambda s, x: x.clip(0, 1)),
    "hardtanh": zero(lambda s, x: nn.functional.hardtanh(x)),
    "hardtanh above zero": not_zero(lambda s, x: nn.functional.hardtanh(x, 1.0, 6.0)),
    "threshold": zero(lambda s, x: nn.functional.threshold(x, 0.1, 0.0)),
    "threshold that is not zero": not_zero(lambda s, x: nn.functional.threshold(x, 0.1, 2.0)),
    "where": zero(lambda s, x: torch.where(x > 0, input=x, other=s.p)),
    "where with a number": not_zero(lambda s, x: torch.where(x > 0, 1.0, x)),
    "where with zero": zero(lambda s, x: torch.where(x > 0, x, 0.0)),
    "masked_fill": zero(lambda s, x: x.masked_fill(x > 1, 0.0)),
    "masked_fill that broadcasts": case(
        lambda s, x: s.p.masked_fill(x[:, :, None] > 0, 0.0), 6, [4, 6], p=nn.Parameter(torch.ones(4))),
    "masked_fill that is not zero": not_zero(lambda s, x: x.masked_fill(x > 1, 3.0)),
}  # fmt: skip

UNARY = {
    "gelu": zero(lambda s, x: nn.functional.gelu(x)),
    "sigmoid": not_zero(lambda s, x: x.sigmoid()),
    "log_sigmoid": not_zero(lambda s, x: nn.functional.logsigmoid(x)),
    "log": case(summed(lambda s, x: x.abs().log()), 6, [], [2, 3]),
    "rsqrt of what is not zero": not_zero(lambda s, x: (x.square() + 1).rsqrt()),
    "a change of type": zero(lambda s, x: x.float().double()),
    "contiguous": case(lambda s, x: x.view(-1, 2, 3).mT.contiguous(), 6, [2, 3]),
    "detach": zero(lambda s, x: x.detach() * x),
    "dropout": case(lambda s, x: nn.functional.dropout(x, 0.5, s.training), 6, [6]),
    "dropout of channels": case(lambda s, x: s.d(x), nn.Conv2d(2, 6, 1), [6], x=(2, 4, 4), d=nn.Dropout2d(0.5)),
    "alpha dropout": case(lambda s, x: s.d(x), 6, [6], d=nn.AlphaDropout(0.5)),
    "prelu": case(lambda s, x: s.a(x), 6, [6], a=SLOPES),
    "prelu of images": case(lambda s, x: s.a(x), nn.Conv2d(2, 6, 1), [6], x=(2, 4, 4), a=SLOPES),
    "prelu of tokens": case(lambda s, x: s.a(x.mT), 6, [6], x=(3, 5), a=SLOPES),
    "prelu of one slope": case(summed(lambda s, x: s.a(x)), 6, [2, 3], a=nn.PReLU()),
    "prelu of one dimension": case(lambda s, x: x * s.a(s.p), 6, [6], p=P, a=nn.PReLU()),
}  # fmt: skip
CASES = {**BINARY, **BOUNDED, **UNARY}


@pytest.mark.parametrize("name", CASES)
def test_what_is_free_can_go(name):
    case = CASES[name]
    assert prove(case) == (case.exact, case.inexact)


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule is pointwise.unary])
def test_zero_stays_zero(name):
    operator = getattr(torch.ops.aten, name.removeprefix("aten::"))
    further = {"dropout": (0.5, False), "feature_dropout": (0.5, False), "to": (torch.float32,), "type_as": (P,)}
    value = operator(torch.zeros(2, 3), *further.get(operator.__name__, ()))
    assert torch.equal(value, torch.zeros(2, 3))


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule is pointwise.with_pole])
def test_a_pole_is_at_zero(name):
    operator = getattr(torch.ops.aten, name.removeprefix("aten::"))
    assert not operator(torch.zeros(2)).isfinite().any()
