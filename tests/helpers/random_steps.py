"""Operations of random networks without weights: elementwise ones, reductions, and everything that moves dimensions."""

import math

import torch
import torch.nn.functional as F
from helpers.random_graphs import op
from torch import nn
from torch.library import custom_op

ZERO_PRESERVING = {
    "relu": torch.relu, "gelu": F.gelu, "silu": F.silu, "tanh": torch.tanh, "leaky_relu": F.leaky_relu, "elu": F.elu,
    "hardswish": F.hardswish, "square": lambda x: x * x.abs(), "log1p": lambda x: torch.log1p(x.abs()), "mish": F.mish,
    "softsign": F.softsign, "clamp": lambda x: x.clamp(-1, 2), "sqrt": lambda x: (x.abs() + 0).sqrt(),
    "pow": lambda x: x**2, "masked_fill": lambda x: x.masked_fill(x > 0.5, 0.0), "neg": lambda x: -x,
    "dropout": lambda x: F.dropout(x, 0.5, False), "relu_": lambda x: F.relu(x * 2, inplace=True),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
}  # fmt: skip
OTHERS = {
    "sigmoid": torch.sigmoid, "exp": lambda x: torch.exp(0.3 * x), "softplus": F.softplus, "cos": torch.cos,
    "rsqrt": lambda x: torch.rsqrt(x * x + 1), "shift": lambda x: x + 0.5, "reverse": lambda x: 1 - x,
    "clamp_min": lambda x: x.clamp(min=0.2), "masked_fill": lambda x: x.masked_fill(x > 0.5, -1.0),
    "where": lambda x: torch.where(x > 0, x, 1.0), "hardsigmoid": F.hardsigmoid,
    "reciprocal": lambda x: 1 / (x * x + 1),
}  # fmt: skip


def wide(x):
    return x.ndim > 2


def image(x):
    return x.ndim == 4


@custom_op("theorem::mystery", mutates_args=())
def mystery(x: torch.Tensor) -> torch.Tensor:
    """An operator that nobody knows: each position is mixed with the next one."""
    return x + 0.5 * x.roll(1, -1)


@mystery.register_fake
def _(x):
    return torch.empty_like(x)


@op
def activation(b, c):
    x = b.pick(c)
    b.add(ZERO_PRESERVING[c.of(ZERO_PRESERVING)], x)


@op
def shifting(b, c):
    """An elementwise function that makes something of zero."""
    x = b.pick(c)
    b.add(OTHERS[c.of(OTHERS)], x)


@op
def softmax(b, c):
    x = b.pick(c)
    dim = c.of(range(-1, -b.values[x].ndim, -1))
    b.add(lambda v: 3 * v.softmax(dim), x)


@op
def binary(b, c):
    """Two values of one shape."""
    x = b.pick(c)
    y = b.pick(c, lambda v: v.shape == b.values[x].shape)
    b.add(c.of((torch.add, torch.mul, torch.sub, torch.maximum, lambda p, q: torch.where(p > 0, p, q),
                lambda p, q: p / (1 + q * q), lambda p, q: p * torch.sigmoid(q), lambda p, q: torch.lerp(p, q, 0.3),
                lambda p, q: torch.addcmul(p, p, q), lambda p, q: p.masked_fill(q > 0, 0.0),
                lambda p, q: p / (q.abs() + 0.1))), x, y)  # fmt: skip


@op
def gate(b, c):
    """A value times another one that is reduced over some dimensions."""
    x = b.pick(c, wide)
    dim = c.of(range(1, b.values[x].ndim))
    b.add(c.of((lambda v: v * torch.sigmoid(v.mean(dim, keepdim=True)), lambda v: v - v.amax(dim, keepdim=True),
                lambda v: v / (1 + v.abs().sum(dim, keepdim=True)))), x)  # fmt: skip


@op
def join(b, c):
    """Values that agree in all dimensions but one, one behind the other."""
    x = b.pick(c)
    dim = c.of(range(1, b.values[x].ndim))
    others = lambda v: [n for i, n in enumerate(v.shape) if i != dim]  # noqa: E731
    more = [
        b.pick(c, lambda v: v.ndim == b.values[x].ndim and others(v) == others(b.values[x]))
        for _ in range(c.of((1, 2)))
    ]
    b.add(lambda *values: torch.cat(values, dim), x, *more)


@op
def stack(b, c):
    x = b.pick(c)
    y = b.pick(c, lambda v: v.shape == b.values[x].shape)
    dim = c.of(range(1, b.values[x].ndim + 1))
    how = c.of(
        (lambda v: v.sum(dim), lambda v: v.mean(dim), lambda v: v.flatten(dim - 1) if dim > 1 else v, lambda v: v)
    )
    b.add(lambda *values: how(torch.stack(values, dim)), x, y)


@op
def cut(b, c):
    """Parts of a dimension, which stay or are put together in another order."""
    x = b.pick(c)
    dim = c.of(range(b.values[x].ndim - 1, 0, -1))
    size = b.values[x].shape[dim]
    at = c.of(range(1, size))
    parts = c.of((lambda v: v.split([at, size - at], dim), lambda v: v.chunk(2, dim), lambda v: v.split(at, dim),
                  lambda v: v.tensor_split((at,), dim)))  # fmt: skip
    b.add(c.of((parts, lambda v: torch.cat(parts(v)[::-1], dim), lambda v: parts(v)[0],
                lambda v: torch.cat([parts(v)[0].tanh(), *parts(v)[1:]], dim))), x)  # fmt: skip


@op
def part(b, c):
    """A range, or every second index, or one, of a dimension."""
    x = b.pick(c)
    dim = c.of(range(b.values[x].ndim - 1, 0, -1))
    size = b.values[x].shape[dim]
    start = c.of(range(size))
    length = c.of(range(1, size - start + 1))
    here = (slice(None),) * dim
    pieces = [
        (*here, slice(start, start + length)), (*here, slice(start % 2, None, 2)), (*here, slice(-length, None)),
        (*here, slice(2, None, 3)), (*here, slice(start, start + length), None),
    ]  # fmt: skip
    piece = c.of(pieces)
    b.add(c.of((lambda v: v[piece], lambda v: v.narrow(dim, start, length), lambda v: v.select(dim, start))), x)


@op
def interleave(b, c):
    """Even and odd indices change places with a sign, as rotary embeddings of one style do."""
    x = b.pick(c, lambda v: v.shape[-1] % 2 == 0)
    b.add(c.of((lambda v: torch.stack([-v[..., 1::2], v[..., ::2]], -1).flatten(-2),
                lambda v: torch.cat([-v.chunk(2, -1)[1], v.chunk(2, -1)[0]], -1),
                lambda v: v + torch.cat([v[..., 1::2], v[..., ::2]], -1))), x)  # fmt: skip


@op
def unbind(b, c):
    x = b.pick(c, lambda v: v.ndim > 2 and min(v.shape[1:]) < 9)
    dim = c.of([i for i, n in enumerate(b.values[x].shape) if i and n < 9])
    b.add(c.of((lambda v: v.unbind(dim)[0] * v.unbind(dim)[-1].tanh(), lambda v: torch.stack(v.unbind(dim)[::-1], dim),
                lambda v: torch.cat([u.unsqueeze(dim) for u in v.unbind(dim)], dim))), x)  # fmt: skip


@op
def glu(b, c):
    x = b.pick(c)
    dim = c.of([i for i in range(b.values[x].ndim - 1, 0, -1) if b.values[x].shape[i] % 2 == 0])
    b.add(lambda v: F.glu(v, dim), x)


@op
def heads(b, c):
    """A dimension as two, and perhaps the first of them in front."""
    x = b.pick(c, lambda v: v.ndim < 5)
    dim = c.of(range(b.values[x].ndim - 1, 0, -1))
    size = c.divisor(b.values[x].shape[dim])
    split = c.of(
        (lambda v: v.unflatten(dim, (-1, size)), lambda v: v.reshape(*v.shape[:dim], -1, size, *v.shape[dim + 1 :]))
    )
    b.add(c.of((split, lambda v: split(v).transpose(1, dim), lambda v: split(v).transpose(dim, dim + 1))), x)


@op
def merge(b, c):
    """Two neighbours as one, as they are or in another order, or all of them."""
    x = b.pick(c, wide)
    dim = c.of(range(b.values[x].ndim - 2, 0, -1))
    b.add(c.of((lambda v: v.flatten(dim, dim + 1), lambda v: v.transpose(dim, dim + 1).flatten(dim, dim + 1),
                lambda v: v.flatten(1), lambda v: v.transpose(1, -1).reshape(v.shape[0], -1))), x)  # fmt: skip


@op
def regroup(b, c):
    """The numbers of a sample as a matrix."""
    x = b.pick(c)
    rows = c.divisor(math.prod(b.values[x].shape[1:]))
    b.add(lambda v: v.reshape(v.shape[0], rows, -1), x)


@op
def through_batch(b, c):
    """Something that leaves the first two dimensions alone, while they are one."""
    x = b.pick(c, wide)
    inside = c.of((torch.relu, lambda v: v.softmax(-1), lambda v: v * v.mean(-1, keepdim=True)))
    b.add(lambda v: inside(v.flatten(0, 1)).unflatten(0, (-1, v.shape[1])), x)


@op
def permute(b, c):
    x = b.pick(c, wide)
    rank = b.values[x].ndim
    order = c.of(([0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)], [0, *range(rank - 1, 0, -1)]))
    b.add(c.of((lambda v: v.permute(order), lambda v: v.permute(order).contiguous())), x)


@op
def repeat(b, c):
    x = b.pick(c)
    dim, times, ones = c.of(range(1, b.values[x].ndim)), c.of((2, 3)), [1] * b.values[x].ndim
    ones[dim] = times
    b.add(c.of((lambda v: v.repeat(*ones), lambda v: v.repeat_interleave(times, dim),
                lambda v: v.unsqueeze(dim).expand(*[-1] * dim, times, *[-1] * (v.ndim - dim)),
                lambda v: v.unsqueeze(dim).expand(*[-1] * dim, times, *[-1] * (v.ndim - dim)).flatten(dim, dim + 1),
                lambda v: v.unsqueeze(dim).tanh().squeeze(dim), lambda v: v.squeeze(dim) * 0.5)), x)  # fmt: skip


@op
def shuffle(b, c):
    x = b.pick(c, image)
    width = b.values[x].shape[1]
    groups = c.divisor(width)
    b.add(c.of((lambda v: v.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2),
                lambda v: F.channel_shuffle(v, groups), lambda v: F.pixel_shuffle(v, 2),
                lambda v: F.pixel_unshuffle(v, 2), lambda v: v.unfold(2, 2, 2).flatten(4))), x)  # fmt: skip


@op
def pad(b, c):
    x = b.pick(c)
    rank = b.values[x].ndim
    amounts = [0] * 2 * (rank - 1)
    amounts[2 * c.of(range(rank - 1)) + c.of((0, 1))] = c.of((1, 2))
    value = c.of((0.0, 0.0, 1.5))
    b.add(lambda v: F.pad(v, amounts, value=value), x)


@op
def pool(b, c):
    x = b.pick(c, image)
    b.add(c.of((nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d(2),
                nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear"), nn.AdaptiveMaxPool2d(2),
                nn.ReflectionPad2d(1), nn.MaxPool2d(3, 1, 1))), x)  # fmt: skip


@op
def pool_line(b, c):
    x = b.pick(c, lambda v: v.ndim == 3)
    b.add(c.of((nn.MaxPool1d(2), nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(2), nn.Upsample(scale_factor=2))), x)


@op
def reduced(b, c):
    x = b.pick(c, wide)
    dim, keep = c.of(range(1, b.values[x].ndim)), c.flag()
    b.add(c.of((lambda v: v.mean(dim, keep), lambda v: v.sum(dim, keep), lambda v: v.amax(dim, keep),
                lambda v: v.max(dim, keep)[0], lambda v: v.norm(dim=dim, keepdim=keep),
                lambda v: v.std(dim, keepdim=keep), lambda v: v.logsumexp(dim, keep),
                lambda v: v.min(dim, keep).values)), x)  # fmt: skip


@op
def along(b, c):
    """Functions that look along a dimension and keep it, or some of it."""
    x = b.pick(c)
    dim = c.of(range(b.values[x].ndim - 1, 0, -1))
    order = list(range(b.values[x].shape[dim]))[::-1]
    b.add(c.of((lambda v: F.normalize(v, dim=dim), lambda v: v.cumsum(dim), lambda v: v.topk(2, dim)[0],
                lambda v: v.sort(dim)[0], lambda v: v.flip(dim), lambda v: v.roll(1, dim),
                lambda v: v[(*[slice(None)] * dim, order)], lambda v: v.diff(dim=dim),
                lambda v: v.cummax(dim)[0])), x)  # fmt: skip


@op
def triangle(b, c):
    x = b.pick(c, wide)
    b.add(c.of((torch.tril, lambda v: v * torch.ones_like(v).triu())), x)


@op
def product(b, c):
    """Two values, multiplied as matrices."""
    x = b.pick(c, wide)
    y = b.pick(c, lambda v: v.ndim == b.values[x].ndim and v.shape[-1] == b.values[x].shape[-1])
    b.add(c.of((lambda p, q: p @ q.transpose(-1, -2), lambda p, q: (p @ q.mT).softmax(-1) @ q,
                lambda p, q: torch.einsum("b...ic,b...jc->b...ij", p, q), lambda p, q: F.cosine_similarity(p, p, -1))),
          x, y)  # fmt: skip


@op
def outer(b, c):
    """All pairs of numbers of two rows, or of two values' columns."""
    x = b.pick(c, lambda v: v.ndim < 4 and v.shape[-1] < 13)
    y = b.pick(c, lambda v: v.shape == b.values[x].shape)
    how = c.of((lambda p, q: p[..., None] * q[..., None, :], lambda p, q: p[..., None] + q[..., None, :],
                lambda p, q: torch.einsum("b...i,b...j->bij", p, q), lambda p, q: p[..., None].relu() * q[:, None].mT
                if p.ndim == 2 else p.mT @ q))  # fmt: skip
    b.add(c.of((how, lambda p, q: how(p, q).sum(-1), lambda p, q: how(p, q).amax(-2))), x, y)


@op
def unknown(b, c):
    x = b.pick(c)
    b.add(mystery, x)


def _written(v, what):
    v = v.clone()
    if what == 0:
        v[:, 0] = 0.3
    elif what == 1:
        v.mul_(2).add_(1)
    elif what == 2:
        v[:, :1] += v[:, -1:]
    else:
        v[..., 1:].tanh_()
    return v


@op
def in_place(b, c):
    x, what = b.pick(c), c.of(range(4))
    b.add(lambda v: _written(v, what), x)
