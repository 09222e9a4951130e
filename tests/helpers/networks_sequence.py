"""Small networks on sequences for the zoo: a class with `inputs` (shapes without the batch) is an entry of it."""

import torch
import torch.nn.functional as F
from torch import nn

SEQUENCE = ((9, 14),)  # tokens, width


def heads(x, count):
    """Split the last axis into heads and put them in front of the tokens."""
    return x.view(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


def merged(x):
    return x.transpose(1, 2).flatten(2)


def attend(q, k, v):
    weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    return weights @ v


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


class SelfAttention(nn.Module):
    """Pre-norm blocks with torch's MultiheadAttention, with and without the weights as its second result."""

    inputs = SEQUENCE

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(14, 24), nn.Linear(24, 5)
        self.norms = nn.ModuleList(nn.LayerNorm(24) for _ in range(5))
        self.attentions = nn.ModuleList(
            nn.MultiheadAttention(24, 4, dropout=0.1, batch_first=True, bias=bias) for bias in (True, False)
        )
        self.mlps = nn.ModuleList(nn.Sequential(nn.Linear(24, w), nn.GELU(), nn.Linear(w, 24)) for w in (40, 44))

    def forward(self, x):
        x = self.stem(x)
        for i, (attention, mlp) in enumerate(zip(self.attentions, self.mlps, strict=True)):
            y = self.norms[2 * i](x)
            x = x + attention(y, y, y, need_weights=i == 0)[0]
            x = x + mlp(self.norms[2 * i + 1](x))
        return self.head(self.norms[4](x)[:, 0])


class EncoderLayers(nn.Module):
    """torch's TransformerEncoderLayer: norms behind the sums, then norms in front."""

    inputs = SEQUENCE

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(14, 30), nn.Linear(30, 5)
        self.post = nn.TransformerEncoderLayer(30, 5, 44, 0.1, batch_first=True)
        self.pre = nn.TransformerEncoderLayer(30, 3, 52, 0.1, "gelu", batch_first=True, norm_first=True)

    def forward(self, x):
        return self.head(self.pre(self.post(self.stem(x))).mean(1))


class LstmClassifier(nn.Module):
    """Two layers in both directions, then the last state."""

    inputs = ((9,),)
    tokens = 37

    def __init__(self):
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(37, 12), nn.LSTM(12, 10, 2, batch_first=True, bidirectional=True)
        self.hidden, self.head = nn.Linear(20, 16), nn.Linear(16, 5)

    def forward(self, ids):
        states, (last, _) = self.lstm(self.embedding(ids))
        return self.head(torch.relu(self.hidden(states[:, -1] + torch.cat([last[-2], last[-1]], -1))))


class GruClassifier(nn.Module):
    """One layer in one direction, between two linear layers."""

    inputs = SEQUENCE

    def __init__(self):
        super().__init__()
        self.stem, self.gru, self.head = nn.Linear(14, 11), nn.GRU(11, 17, batch_first=True), nn.Linear(17, 5)

    def forward(self, x):
        states, _ = self.gru(torch.tanh(self.stem(x)))
        return self.head(states.mean(1))


class SharedLinear(nn.Module):
    """One layer is applied three times in a residual loop, another one to two different things."""

    inputs = SEQUENCE

    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.outer = nn.Linear(14, 16), nn.Linear(16, 22), nn.Linear(22, 16)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x):
        x = first = self.stem(x)
        for _ in range(3):
            x = x + self.outer(torch.relu(self.inner(self.norm(x))))
        return self.head(x) * torch.sigmoid(self.head(first))


class TiedLanguageModel(nn.Module):
    """The decoder's weight is the embedding; its bias is its own."""

    inputs = ((9,),)
    tokens = 37

    def __init__(self):
        super().__init__()
        self.embedding, self.position = nn.Embedding(37, 18, padding_idx=0), nn.Parameter(torch.randn(1, 9, 18))
        self.up, self.down, self.norm = nn.Linear(18, 26), nn.Linear(26, 18), nn.LayerNorm(18)
        self.decoder = nn.Linear(18, 37)
        self.decoder.weight = self.embedding.weight

    def forward(self, ids):
        x = self.embedding(ids) * 18**0.5 + self.position
        return self.decoder(self.norm(x + self.down(F.gelu(self.up(x)))))


class EinsumAttention(nn.Module):
    """Projections with three axes; everything is an einsum."""

    inputs = SEQUENCE

    def __init__(self):
        super().__init__()
        self.qkv = nn.Parameter(torch.randn(3, 14, 4, 6) / 14**0.5)
        self.out, self.head = nn.Parameter(torch.randn(4, 6, 14) / 24**0.5), nn.Linear(14, 5)

    def forward(self, x):
        q, k, v = (torch.einsum("bnc,chd->bnhd", x, weight) for weight in self.qkv)
        weights = torch.einsum("bihd,bjhd->bhij", q * 6**-0.5, k).softmax(-1)
        return self.head(x + torch.einsum("bhij,bjhd,hdc->bic", weights, v, self.out))


class LearnedQueries(nn.Module):
    """Parameters without a layer: positions, queries, scale and shift."""

    inputs = SEQUENCE

    def __init__(self):
        super().__init__()
        self.stem, self.position = nn.Linear(14, 20), nn.Parameter(torch.randn(1, 9, 20))
        self.queries, self.scale, self.shift = (
            nn.Parameter(torch.randn(shape)) for shape in ((4, 16), (1, 20), (1, 20))
        )
        self.key, self.value, self.head = nn.Linear(20, 16), nn.Linear(20, 26), nn.Linear(26, 5)

    def forward(self, x):
        x = self.scale * (self.stem(x) + self.position) + self.shift
        return self.head(attend(self.queries.expand(x.shape[0], -1, -1), self.key(x), self.value(x)).mean(1))


class DilatedConvs(nn.Module):
    """A temporal network: causal one-dimensional convolutions with dilations and residual sums."""

    inputs = ((6, 21),)

    def __init__(self):
        super().__init__()
        self.stem, self.norms = nn.Conv1d(6, 13, 1), nn.ModuleList(nn.BatchNorm1d(n) for n in (17, 19))
        self.inner = nn.ModuleList(nn.Conv1d(13, n, 3, dilation=d) for n, d in ((17, 1), (19, 2)))
        self.outer = nn.ModuleList(nn.Conv1d(n, 13, 1) for n in (17, 19))
        self.head = nn.Linear(13, 5)

    def forward(self, x):
        x = self.stem(x)
        for i, (inner, norm, outer) in enumerate(zip(self.inner, self.norms, self.outer, strict=True)):
            x = x + outer(torch.relu(norm(inner(F.pad(x, (2 * (i + 1), 0))))))
        return self.head(x.amax(-1))


class RotaryAttention(nn.Module):
    """RMSNorm, rotary positions on even and odd channels, SwiGLU."""

    inputs = SEQUENCE

    def __init__(self):
        super().__init__()
        self.stem, self.norm1, self.norm2 = nn.Linear(14, 22), RmsNorm(22), RmsNorm(22)
        self.q, self.k, self.v = nn.Linear(22, 24), nn.Linear(22, 24), nn.Linear(22, 24)
        self.o, self.head = nn.Linear(24, 22), nn.Linear(22, 5)
        self.gate, self.up, self.down = nn.Linear(22, 34), nn.Linear(22, 34), nn.Linear(34, 22)
        angles = torch.arange(9)[:, None] * 0.5 ** torch.arange(4)[None]
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def rotated(self, x):
        even, odd = x[..., ::2], x[..., 1::2]
        pairs = (even * self.cos - odd * self.sin, even * self.sin + odd * self.cos)
        return torch.stack(pairs, -1).flatten(-2)

    def forward(self, x):
        x = self.stem(x)
        y = self.norm1(x)
        q, k = self.rotated(heads(self.q(y), 3)), self.rotated(heads(self.k(y), 3))
        x = x + self.o(merged(F.scaled_dot_product_attention(q, k, heads(self.v(y), 3), is_causal=True)))
        y = self.norm2(x)
        return self.head(x + self.down(F.silu(self.gate(y)) * self.up(y)))


class MultiQuery(nn.Module):
    """All heads share one key and one value, which are expanded."""

    inputs = SEQUENCE

    def __init__(self):
        super().__init__()
        self.q, self.kv, self.o, self.head = nn.Linear(14, 28), nn.Linear(14, 14), nn.Linear(28, 14), nn.Linear(14, 5)

    def forward(self, x):
        k, v = (part.unsqueeze(1).expand(-1, 4, -1, -1) for part in self.kv(x).split(7, -1))
        return self.head(x + self.o(merged(attend(heads(self.q(x), 4), k, v))))


class RepeatedHeads(nn.Module):
    """Every key and value head serves four query heads, by repeat_interleave."""

    inputs = SEQUENCE

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(14, 60), nn.Linear(14, 15), nn.Linear(14, 15)
        self.o, self.head = nn.Linear(60, 14), nn.Linear(14, 5)

    def forward(self, x):
        k, v = (heads(layer(x), 3).repeat_interleave(4, dim=1) for layer in (self.k, self.v))
        return self.head(x + self.o(merged(attend(heads(self.q(x), 12), k, v))))


class FusedUnbind(nn.Module):
    """Queries, keys and values are one layer: reshape, permute, unbind."""

    inputs = SEQUENCE

    def __init__(self):
        super().__init__()
        self.qkv, self.o, self.head = nn.Linear(14, 72), nn.Linear(24, 14), nn.Linear(14, 5)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 4, 6).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.head(x + self.o(y.transpose(1, 2).reshape(b, n, 24)))


class FusedChunk(nn.Module):
    """Queries, keys and values are one layer: three chunks, then heads."""

    inputs = SEQUENCE

    def __init__(self):
        super().__init__()
        self.qkv, self.o, self.head = nn.Linear(14, 72), nn.Linear(24, 14), nn.Linear(14, 5)

    def forward(self, x):
        q, k, v = (heads(part, 4) for part in self.qkv(x).chunk(3, -1))
        return self.head(x + self.o(merged(attend(q, k, v))))


class CosineAttention(nn.Module):
    """Queries and keys are normalised, with a learned temperature for every head."""

    inputs = SEQUENCE

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(14, 24) for _ in range(3))
        self.temperature, self.o, self.head = nn.Parameter(torch.rand(4, 1, 1)), nn.Linear(24, 14), nn.Linear(14, 5)

    def forward(self, x):
        q, k = (F.normalize(heads(layer(x), 4), dim=-1) for layer in (self.q, self.k))
        weights = (q @ k.transpose(-2, -1) * self.temperature.clamp(max=4.6).exp()).softmax(-1)
        return self.head(x + self.o(merged(weights @ heads(self.v(x), 4))))


class HeadsConv(nn.Module):
    """A convolution whose channels are the heads of a linear layer."""

    inputs = SEQUENCE

    def __init__(self):
        super().__init__()
        self.split, self.mix, self.join = nn.Linear(14, 32), nn.Conv2d(4, 6, 3, padding=1), nn.Linear(48, 5)

    def forward(self, x):
        return self.join(merged(torch.relu(self.mix(heads(self.split(x), 4)))))


class DenseExperts(nn.Module):
    """A mixture of experts with stacked weights, all of which run; a softmax weighs them."""

    inputs = SEQUENCE

    def __init__(self):
        super().__init__()
        self.router, self.head = nn.Linear(14, 4), nn.Linear(14, 5)
        self.up, self.down = nn.Parameter(torch.randn(4, 14, 20) / 4), nn.Parameter(torch.randn(4, 20, 14) / 4)

    def forward(self, x):
        hidden = F.gelu(torch.einsum("bnh,ehi->bnei", x, self.up))
        found = torch.einsum("bnei,eih->bneh", hidden, self.down)
        return self.head(x + torch.einsum("bneh,bne->bnh", found, self.router(x).softmax(-1)))


class StateSpace(nn.Module):
    """A recurrence over three steps, written as a loop, with a state for every channel."""

    inputs = ((3, 14),)

    def __init__(self):
        super().__init__()
        self.into, self.gate, self.step = nn.Linear(14, 20), nn.Linear(14, 20), nn.Linear(20, 20)
        self.read, self.write, self.out = nn.Linear(20, 6), nn.Linear(20, 6), nn.Linear(20, 5)
        self.decay, self.skip = nn.Parameter(torch.randn(20, 6)), nn.Parameter(torch.ones(20))

    def forward(self, x):
        u = F.silu(self.into(x))
        delta, read, write = F.softplus(self.step(u)), self.read(u), self.write(u)
        state, found = u.new_zeros(u.shape[0], 20, 6), []
        for t in range(3):
            decay = torch.exp(-delta[:, t, :, None] * self.decay.exp())
            state = decay * state + (delta[:, t] * u[:, t])[:, :, None] * write[:, t, None, :]
            found.append((state * read[:, t, None, :]).sum(-1) + self.skip * u[:, t])
        return self.out(torch.stack(found, 1) * F.silu(self.gate(x)))
