"""Operations of random networks that mix positions: attention and recurrent layers."""

import torch
import torch.nn.functional as F
from helpers.random_graphs import op
from torch import nn


@op
def attention(b, c):
    x = b.pick(c, lambda v: v.ndim == 3)
    y = b.pick(c, lambda v: v.ndim == 3) if c.flag() else x
    heads, shared_by = c.of((2, 3, 4)), c.of((1, 1, 2))
    how = c.of(("sdpa", "softmax", "gqa", "rotary"))
    width, other = b.values[x].shape[-1], b.values[y].shape[-1]
    b.add(Attention(width, other, heads=heads, shared_by=shared_by, size=c.of((4, 6, 2)), how=how), x, y)


class Attention(nn.Module):
    """Attention with `heads` heads for keys and values, each shared by some heads of the queries."""

    def __init__(self, width, other, *, heads, shared_by, size, how):
        super().__init__()
        self.heads, self.shared_by, self.size, self.how = heads, shared_by, size, how
        self.q, self.kv = nn.Linear(width, heads * shared_by * size), nn.Linear(other, 2 * heads * size)
        self.out = nn.Linear(heads * shared_by * size, width)

    def forward(self, x, y):
        q = self.q(x).view(x.shape[0], x.shape[1], -1, self.size).transpose(1, 2)
        k, v = self.kv(y).chunk(2, -1)
        k, v = (t.view(y.shape[0], y.shape[1], self.heads, self.size).transpose(1, 2) for t in (k, v))
        mixed = self.mixed(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(x.shape[0], x.shape[1], -1))

    def mixed(self, q, k, v):
        if self.how == "gqa":
            return F.scaled_dot_product_attention(q, k, v, enable_gqa=self.shared_by > 1)
        if self.how == "rotary":
            q, k = (t * 0.7 + rotated(t) * 0.4 for t in (q, k))
        k, v = self.repeated(k), self.repeated(v)
        if self.how == "sdpa":
            return F.scaled_dot_product_attention(q, k, v, is_causal=self.size == 4)
        scores = q @ k.transpose(-1, -2) * self.size**-0.5
        return scores.softmax(-1) @ v

    def repeated(self, t):
        if self.how == "softmax":
            return t.repeat_interleave(self.shared_by, 1)
        batch, heads, length, size = t.shape
        return t[:, :, None].expand(batch, heads, self.shared_by, length, size).reshape(batch, -1, length, size)


def rotated(x):
    first, second = x.chunk(2, -1)
    return torch.cat([-second, first], -1)


@op
def multihead(b, c):
    x = b.pick(c, lambda v: v.ndim == 3)
    width = b.values[x].shape[-1]
    b.add(SelfAttention(nn.MultiheadAttention(width, c.divisor(width), batch_first=True)), x)


class SelfAttention(nn.Module):
    """PyTorch's own layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x, x, x, need_weights=False)[0]


@op
def recurrent(b, c):
    x = b.pick(c, lambda v: v.ndim == 3)
    kind, two = c.of((nn.GRU, nn.LSTM, nn.RNN)), c.flag()
    b.add(Recurrent(kind(b.values[x].shape[-1], c.of((4, 5, 6)), bidirectional=two, batch_first=True)), x)


class Recurrent(nn.Module):
    """Only the outputs of a recurrent layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]
