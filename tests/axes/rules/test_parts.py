import pytest
import torch
from helpers.axes import case, prove
from torch import nn
from torch.nn import functional as F

P = nn.Parameter(torch.ones(6))
IMAGE = (2, 4, 4)


def linear(out=4):
    return nn.Linear(6, out)


def image(out=6):
    return nn.Conv2d(2, out, 1)


CASES = {
    "cat": case(lambda s, x: torch.cat([x, s.b(x)], 1), 6, [6, 4], b=linear()),
    "cat from behind": case(lambda s, x: torch.cat((x, s.b(x)), dim=-1), 6, [6, 4], b=linear()),
    "cat of the same twice": case(lambda s, x: torch.cat([x, x * 2], 1), 6, [6]),
    "cat in cat": case(lambda s, x: torch.cat([torch.cat([x, s.b(x)], 1), x], 1), 6, [6, 4], b=linear()),
    "cat of one": case(lambda s, x: torch.cat([x], 1), 6, [6]),
    "cat with nothing": case(lambda s, x: torch.cat([x.new_zeros(0), x, x[:, :0]], 1), 6, [6]),
    "cat with one channel": case(lambda s, x: torch.cat([x, s.b(x)], 1), 6, [6], b=linear(1)),
    "cat along another dimension": case(
        lambda s, x: torch.cat([x[:, None], s.b(x)[:, None]], 1), 6, [6], b=linear(6)),
    "concat": case(lambda s, x: torch.concat([x, s.b(x)], 1), 6, [6, 4], b=linear()),
    "stack": case(lambda s, x: torch.stack([x, s.b(x)], 1), 6, [6], b=linear(6)),
    "stack at the end": case(lambda s, x: torch.stack([x, s.b(x)], dim=-1), 6, [6], b=linear(6)),
    "stack in front": case(lambda s, x: torch.stack([x, s.b(x)]).sum(0), 6, [6], b=linear(6)),
    "stack of one": case(lambda s, x: torch.stack([x], 1), 6, [6]),
    "split": case(lambda s, x: torch.cat(x.split(2, 1)[::-1], 1), 6, [2, 2, 2]),
    "split with a smaller end": case(lambda s, x: torch.cat(x.split(4, -1)[::-1], 1), 6, [4, 2]),
    "split by sizes": case(
        lambda s, x: torch.cat(torch.split(x, split_size_or_sections=[1, 2, 3], dim=-1)[::-1], -1), 6, [2, 3]),
    "split with an empty part": case(lambda s, x: torch.cat(x.split([0, 4, 2], 1)[::-1], 1), 6, [4, 2]),
    "split into one": case(lambda s, x: x.split([6], 1)[0], 6, [6]),
    "split and add": case(lambda s, x: sum(x.split(2, 1)), 6, [2]),
    "split where parts are not used": case(lambda s, x: x.split([2, 2, 3], -1)[2], 7, [2, 2, 3]),
    "split at other places": case(
        lambda s, x: torch.cat([*x.split([4, 3], 1)[0].split([2, 2], 1), x.split([2, 5], 1)[1]], 1), 7, [2, 2, 3]),
    "chunk": case(lambda s, x: x.chunk(2, 1)[0] * x.chunk(chunks=2, dim=-1)[1].sigmoid(), 6, [3]),
    "chunk with a smaller end": case(lambda s, x: torch.cat(x.chunk(2, 1)[::-1], 1), 5, [3, 2]),
    "tensor_split": case(lambda s, x: torch.cat(x.tensor_split(2, 1)[::-1], 1), 5, [3, 2]),
    "tensor_split at indices": case(lambda s, x: torch.cat(x.tensor_split([1, 4], dim=-1)[::-1], 1), 6, [3, 2]),
    "unbind": case(lambda s, x: torch.stack(x.view(-1, 2, 3).unbind(1)[::-1], 1), 6, [3]),
    "unbind from behind": case(lambda s, x: torch.stack(x.view(-1, 2, 3).unbind(-1)[::-1], 1), 6, [2]),
    "unbind of channels": case(lambda s, x: torch.stack(x.unbind(1)[::-1], 1), 6),
    "unbind of one": case(lambda s, x: x[:, None].unbind(1)[0], 6, [6]),
    "unbind of queries and keys": case(
        lambda s, x: s.b(x).view(-1, 3, 4).unbind(1)[0] * s.b(x).view(-1, 3, 4).unbind(1)[2], 6, [6, 4],
        b=linear(12)),
    "select": case(lambda s, x: x * x.select(1, 2)[:, None], 6, [2, 3]),
    "select by number": case(lambda s, x: x[:, 0] * x[:, -1], 6, [6], x=(3, 5)),
    "select from behind": case(lambda s, x: x * x.select(dim=-1, index=-4)[:, None], 6, [2, 3]),
    "slice": case(lambda s, x: torch.cat([x[:, 3:], x[:, :3]], 1), 6, [3, 3]),
    "slice from behind": case(lambda s, x: x[:, -5:-3], 7, [2, 2, 3]),
    "slice from before the start": case(lambda s, x: x[:, -9:3], 6, [3, 3]),
    "slice of all, from behind": case(lambda s, x: x[:, -6:] * x[:, -9:], 6, [6]),
    "slice of all, to the end": case(lambda s, x: x[:, :6] * x[:, :99], 6, [6]),
    "slice of one channel broadcasts": case(lambda s, x: x[:, :1] * x[:, 1:], 6, [5]),
    "split of one channel broadcasts": case(lambda s, x: torch.mul(*x.split([5, 1], 1)), 6, [5]),
    "every sixth of six broadcasts": case(lambda s, x: x[:, ::6] * s.b(x), 6, [4], b=linear()),
    "slice of nothing": case(lambda s, x: torch.cat([x[:, 9:], x], 1), 6, [6]),
    "slices that overlap": case(lambda s, x: x[:, 4:] * x[:, :-4], 6, [2, 2]),
    "slices of slices": case(lambda s, x: x[:, 2:][:, 2:] * x[:, :-2][:, :4], 8, [2, 2]),
    "slice in steps": case(lambda s, x: torch.cat([x[:, ::2], x[:, 1::2]], 1), 6, [3]),
    "slice in steps, from behind": case(lambda s, x: x[:, -5::2], 6, [3]),
    "slice in steps, to before the end": case(lambda s, x: x[:, :-2:3], 6, [2]),
    "slice in steps that do not fit": case(lambda s, x: x[:, ::4], 6),
    "slice in steps from the middle": case(lambda s, x: x[:, 2::2], 6),
    "slice of halves of heads": case(
        lambda s, x: torch.cat([-x.view(-1, 3, 4)[..., 2:], x.view(-1, 3, 4)[..., :2]], -1), 12, [3, 2, 2]),
    "slice of tokens": case(lambda s, x: x[:, -2:], 6, [6], x=(3, 5)),
    "slice of the batch": case(lambda s, x: x * x[:1].tanh(), 6, [6]),
    "narrow": case(lambda s, x: x.narrow(dim=-1, start=2, length=3), 7, [2, 3, 2]),
    "narrow from behind": case(lambda s, x: x.narrow(1, -5, 2), 7, [2, 2, 3]),
    "narrow of all": case(lambda s, x: x.narrow(1, 0, 6) * x.narrow(1, -6, 6), 6, [6]),
    "pad": case(lambda s, x: F.pad(x, (2, 3)), 6, [6, 2, 3]),
    "pad with a value": case(lambda s, x: F.pad(x, pad=(0, 2), mode="constant", value=3.0), 6, [6, 2]),
    "pad with nothing": case(lambda s, x: F.pad(x, (0, 0)), 6, [6]),
    "pad that cuts off": case(lambda s, x: F.pad(x, (1, -2)), 6),
    "pad several dimensions": case(lambda s, x: F.pad(x, (1, 0, 2, 0)), 6, [6, 2], x=(3, 5)),
    "pad channels": case(lambda s, x: F.pad(x, (0, 0, 0, 0, 1, 2)), image(), [6, 2], x=IMAGE),
    "pad pixels": case(lambda s, x: nn.ConstantPad2d((1, 2, 0, 1), 2.0)(x).mean((2, 3)), image(), [6], x=IMAGE),
    "pad by reflection": case(lambda s, x: F.pad(x, (1, 1, 1, 1), mode="reflect"), image(), [6], x=IMAGE),
    "pad by replication": case(lambda s, x: F.pad(x, (1, 1, 1, 1), mode="replicate"), image(), [6], x=IMAGE),
    "pad in a circle": case(lambda s, x: F.pad(x, (1, 1, 1, 1), mode="circular"), image(), [6], x=IMAGE),
    "pad channels in a circle": case(lambda s, x: F.pad(x, (1, 1), mode="circular"), 6, x=(3, 5)),
    "roll": case(lambda s, x: x.roll(2, 1), 6),
    "roll of all": case(lambda s, x: x * s.p.roll(2), 6, p=P),
    "roll of tokens": case(lambda s, x: x.roll((1,), (-2,)), 6, [6], x=(3, 5)),
    "flip": case(lambda s, x: x.flip([-1]), 6),
    "flip of tokens": case(lambda s, x: x.flip(1), 6, [6], x=(3, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_free_can_go(name):
    case = CASES[name]
    assert prove(case) == (case.exact, case.inexact)
