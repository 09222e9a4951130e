"""Operations of random networks that have weights: convolutions, linear layers, norms, parameters."""

import torch
import torch.nn.functional as F
from helpers.random_graphs import Free, Unfit, op
from torch import nn

CONVOLUTIONS = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
TRANSPOSED = {3: nn.ConvTranspose1d, 4: nn.ConvTranspose2d, 5: nn.ConvTranspose3d}
BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
INSTANCE_NORMS = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}


def spatial(x):
    return x.ndim in CONVOLUTIONS


def channels(b, x):
    return b.values[x].shape[1]


@op
def linear(b, c):
    x = b.pick(c)
    b.add(nn.Linear(b.values[x].shape[-1], c.width(), bias=not c.flag()), x)


@op
def conv(b, c):
    x = b.pick(c, spatial)
    kernel, bias = c.of((1, 3)), not c.flag()
    padding = c.of((kernel // 2, 0))
    layer = CONVOLUTIONS[b.values[x].ndim]
    mode = c.of(("zeros", "zeros", "circular", "replicate"))
    b.add(layer(channels(b, x), c.width(), kernel, padding=padding, padding_mode=mode, bias=bias), x)


@op
def conv_same(b, c):
    x = b.pick(c, spatial)
    b.add(CONVOLUTIONS[b.values[x].ndim](channels(b, x), c.width(), c.of((2, 3)), padding="same", dilation=2), x)


@op
def conv_grouped(b, c):
    x = b.pick(c, spatial)
    groups = c.divisor(channels(b, x))
    kernel, stride, bias = c.of((1, 3)), c.of((1, 2)), not c.flag()
    layer = CONVOLUTIONS[b.values[x].ndim]
    b.add(layer(channels(b, x), groups * c.of((1, 2, 3)), kernel, stride, kernel // 2, groups=groups, bias=bias), x)


@op
def conv_depthwise(b, c):
    x = b.pick(c, spatial)
    width = channels(b, x)
    layer = CONVOLUTIONS[b.values[x].ndim]
    b.add(layer(width, width * c.of((1, 2, 3)), 3, padding=1, groups=width, bias=not c.flag()), x)


@op
def conv_transposed(b, c):
    x = b.pick(c, spatial)
    width = channels(b, x)
    groups = c.of([g for g in range(1, width + 1) if width % g == 0])
    out, stride, bias = groups * c.of((1, 2, 3)) if groups > 1 else c.width(), c.of((1, 2)), not c.flag()
    b.add(TRANSPOSED[b.values[x].ndim](width, out, c.of((1, 2)), stride, groups=groups, bias=bias), x)


@op
def batch_norm(b, c):
    x = b.pick(c, lambda v: v.ndim in BATCH_NORMS)
    b.add(BATCH_NORMS[b.values[x].ndim](channels(b, x), affine=not c.flag(), track_running_stats=not c.flag()), x)


@op
def instance_norm(b, c):
    x = b.pick(c, spatial)
    b.add(INSTANCE_NORMS[b.values[x].ndim](channels(b, x), affine=c.flag(), track_running_stats=c.flag()), x)


@op
def layer_norm(b, c):
    x = b.pick(c)
    last = b.values[x].shape[-c.of((1, 1, 2)) :] if b.values[x].ndim > 2 else b.values[x].shape[1:]
    b.add(nn.LayerNorm(last, elementwise_affine=not c.flag()), x)


@op
def rms_norm(b, c):
    x = b.pick(c)
    b.add(nn.RMSNorm(b.values[x].shape[-1], eps=1e-3, elementwise_affine=not c.flag()), x)


@op
def group_norm(b, c):
    """Over several numbers: one alone less its mean is zero, or a rounding error times 300."""
    x = b.pick(c, lambda v: v[0].numel() > 1)
    width, count = channels(b, x), b.values[x][0].numel()
    groups = [g for g in range(1, width + 1) if width % g == 0 and count > g]
    b.add(nn.GroupNorm(c.of(groups), width, affine=not c.flag()), x)


@op
def weight_norm(b, c):
    x = b.pick(c)
    b.add(nn.utils.parametrizations.weight_norm(nn.Linear(b.values[x].shape[-1], c.width()), dim=c.of((0, 1))), x)


@op
def prelu(b, c):
    x = b.pick(c)
    b.add(nn.PReLU(c.of((1, channels(b, x)))), x)


@op
def shared(b, c):
    """A layer once more."""
    layer, shape = c.of(b.layers[::-1])
    x = b.pick(c, lambda v: tuple(v.shape[1:]) == shape)
    b.add(layer, x)


class Tied(nn.Module):
    """Two linear layers with one weight, the second transposed."""

    def __init__(self, width, inner):
        super().__init__()
        self.first, self.bias = nn.Linear(width, inner), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return F.linear(torch.relu(self.first(x)), self.first.weight.t(), self.bias)


@op
def tied(b, c):
    x = b.pick(c)
    b.add(Tied(b.values[x].shape[-1], c.width()), x)


@op
def projected(b, c):
    """A residual sum with a projection of another value."""
    x = b.pick(c)
    y = b.pick(c, lambda v: v.ndim == b.values[x].ndim and v.shape[1:-1] == b.values[x].shape[1:-1])
    b.add(torch.add, x, b.add(nn.Linear(b.values[y].shape[-1], b.values[x].shape[-1], bias=not c.flag()), y))


@op
def residual(b, c):
    """Two layers around an activation beside an identity."""
    x = b.pick(c)
    width, inner, act = b.values[x].shape[-1], c.width(), c.of((torch.relu, F.gelu, torch.sigmoid))
    hidden = b.add(nn.Linear(width, inner), x)
    b.add(torch.add, x, b.add(nn.Linear(inner, width, bias=not c.flag()), b.add(act, hidden)))


@op
def residual_conv(b, c):
    """A bottleneck with batch norms."""
    x = b.pick(c, lambda v: v.ndim == 4)
    width, inner = channels(b, x), c.width()
    hidden = b.add(nn.Conv2d(width, inner, 1, bias=False), x)
    hidden = b.add(torch.relu, b.add(nn.BatchNorm2d(inner), hidden))
    b.add(torch.add, b.add(nn.Conv2d(inner, width, 3, padding=1), hidden), x)


@op
def residual_grouped(b, c):
    """A grouped or transposed convolution beside an identity."""
    x = b.pick(c, spatial)
    width, bias = channels(b, x), c.flag()
    groups = c.divisor(width)
    layer, kernel = c.of((CONVOLUTIONS, TRANSPOSED))[b.values[x].ndim], c.of((1, 3))
    b.add(torch.add, x, b.add(layer(width, width, kernel, padding=kernel // 2, groups=groups, bias=bias), x))


@op
def squeeze_excite(b, c):
    x = b.pick(c, lambda v: v.ndim == 4)
    width, inner = channels(b, x), c.of((3, 4, 5))
    mean = b.add(lambda v: v.mean((2, 3), keepdim=True), x)
    gate = b.add(nn.Conv2d(inner, width, 1), b.add(F.silu, b.add(nn.Conv2d(width, inner, 1), mean)))
    b.add(torch.mul, x, b.add(c.of((torch.sigmoid, F.hardsigmoid)), gate))


@op
def free(b, c):
    """Arithmetic with a free parameter that has some dimensions of the value."""
    x = b.pick(c)
    shape = b.values[x].shape[1:]
    how = c.of((torch.mul, torch.add, torch.sub, torch.maximum, lambda v, p: v / (p.abs() + 1)))
    kept = c.of((len(shape), 1))
    single = c.of(range(kept + 1))
    b.add(Free(tuple(1 if i == single else n for i, n in enumerate(shape[-kept:])), how), x)


@op
def free_channels(b, c):
    """A scale for each channel in front of positions."""
    x = b.pick(c, lambda v: v.ndim > 2)
    how = c.of((lambda v, p: v * p.view(-1, *[1] * (v.ndim - 2)), lambda v, p: v + p[(..., *[None] * (v.ndim - 2))]))
    b.add(Free((channels(b, x),), how), x)


@op
def token(b, c):
    """A learned row in front."""
    x = b.pick(c, lambda v: v.ndim == 3)
    shape = (1, c.of((1, 2)), b.values[x].shape[-1])
    b.add(Free(shape, lambda v, p: torch.cat([p.expand(v.shape[0], -1, -1), v], 1)), x)


@op
def positions(b, c):
    """An embedding of the positions."""
    x = b.pick(c, lambda v: v.ndim == 3)
    length, width = b.values[x].shape[1:]
    b.add(Positions(c.of((length, length + 3)), width), x)


class Positions(nn.Module):
    """Adds a row of a table at every position."""

    def __init__(self, length, width):
        super().__init__()
        self.table = nn.Embedding(length, width)

    def forward(self, x):
        return x + self.table(torch.arange(x.shape[1], device=x.device))


@op
def einsum(b, c):
    x = b.pick(c)
    width = b.values[x].shape[-1]
    many, d, e = c.of((2, 3, 4)), c.of((3, 4, 5)), c.width()
    equation, shape = c.of((
        ("b...c,cd->b...d", (width, e)), ("b...c,dc->bd...", (e, width)), ("b...c,hcd->b...hd", (many, width, d)),
        ("...c,...c->...c", (width,)), ("bc...,c->b...", (b.values[x].shape[1],)),
    ))  # fmt: skip
    b.add(Free(shape, lambda v, p: torch.einsum(equation, v, p)), x)


@op
def matmul(b, c):
    """A product with a free matrix, from either side."""
    x = b.pick(c, lambda v: v.ndim > 2)
    *_, rows, columns = b.values[x].shape
    if c.flag():
        b.add(Free((c.width(), rows), lambda v, p: p @ v), x)
    else:
        b.add(Free((columns, c.width()), lambda v, p: v @ p), x)


@op
def made_weight(b, c):
    """A linear layer whose weight is made of another value."""
    x = b.pick(c, lambda v: v.shape[-1] < 13)
    y = b.pick(c, lambda v: v.ndim == 2)
    width, out = b.values[x].shape[-1], c.of((3, 4, 5))
    made = b.add(nn.Linear(b.values[y].shape[-1], width * out), y)
    b.add(lambda v, w: F.linear(v, w.mean(0).view(out, width)), x, made)


@op
def read_often(b, c):
    """A layer without bias that reads three functions of a value."""
    x = b.pick(c)
    layer = nn.Linear(b.values[x].shape[-1], c.width(), bias=False)
    first = b.add(layer, b.add(torch.relu, x))
    b.add(torch.add, first, b.add(torch.mul, b.add(layer, b.add(torch.sigmoid, x)), b.add(layer, x)))


@op
def bilinear(b, c):
    x = b.pick(c)
    y = b.pick(c, lambda v: v.shape[1:-1] == b.values[x].shape[1:-1])
    if b.values[x].shape[-1] > 12 or b.values[y].shape[-1] > 12:
        raise Unfit
    b.add(nn.Bilinear(b.values[x].shape[-1], b.values[y].shape[-1], c.width()), x, y)
