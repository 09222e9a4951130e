"""Small networks for the zoo that do something unusual with channels: a class with `inputs` is an entry of it."""

import torch
import torch.nn.functional as F
from helpers.networks_conv import IMAGE, Tail, conv, conv_norm
from torch import nn


class Between(nn.Module):
    """A convolution, something done to its channels (the class's `middle`), and a convolution that reads the result."""

    width, after = 10, 10  # channels in front of and behind the middle

    def __init__(self):
        super().__init__()
        self.stem, self.body, self.tail = conv_norm(3, self.width), conv_norm(self.after, 13), Tail(13)
        self.prepare()

    def prepare(self):
        """Make what the middle needs."""

    def forward(self, x):
        return self.tail(self.body(self.middle(self.stem(x))))


class BiasReluConv(nn.Module):
    """A removed channel of the first convolution leaves relu(bias) behind, if it is removed by zeros in its weight."""

    inputs = IMAGE

    def __init__(self):
        super().__init__()
        self.first, self.second, self.tail = conv(3, 11), conv(11, 8, 1), Tail(8)

    def forward(self, x):
        return self.tail(self.second(torch.relu(self.first(x))))


class DepthwiseMultiplier(Between):
    """Every channel becomes two."""

    inputs, after = IMAGE, 20

    def prepare(self):
        self.depthwise = conv(10, 20, groups=10)

    def middle(self, x):
        return F.relu6(self.depthwise(x))


class PlainBatchNorm(Between):
    """A batch norm without weight and bias."""

    inputs, width = IMAGE, 9

    def prepare(self):
        self.conv, self.norm = conv(9, 10, 1), nn.BatchNorm2d(10, affine=False)

    def middle(self, x):
        return torch.tanh(self.norm(self.conv(x)))


class ChannelSoftmax(Between):
    """A softmax over the channels of every pixel."""

    inputs = IMAGE

    def middle(self, x):
        return x.softmax(1)


class ChannelNormalize(Between):
    """The channels of every pixel get length one."""

    inputs = IMAGE

    def middle(self, x):
        return F.normalize(x, dim=1)


class ChannelNorm(Between):
    """A layer norm over the channels of an image, between two permutations."""

    inputs = IMAGE

    def prepare(self):
        self.norm = nn.LayerNorm(10)

    def middle(self, x):
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelOrder(Between):
    """Maximum, median and sorted values over the channels."""

    inputs, after = IMAGE, 12

    def middle(self, x):
        return torch.cat([x.max(1, keepdim=True)[0], x.median(1, keepdim=True).values, x.sort(1).values], 1)


class Prelu(Between):
    """A slope per channel, and one slope for all."""

    inputs, width = IMAGE, 9

    def prepare(self):
        self.conv, self.act1, self.act2 = conv(9, 10, 1), nn.PReLU(10), nn.PReLU()

    def middle(self, x):
        return self.act2(self.act1(self.conv(x)))


class Maxout(Between):
    """Neighbours in pairs; the larger one survives."""

    inputs, width, after = IMAGE, 14, 7

    def middle(self, x):
        b, c, h, w = x.shape
        return x.view(b, c // 2, 2, h, w).amax(2)


class StackSum(Between):
    """Branches stacked on a new axis and summed; others stacked, weighed and summed."""

    inputs, after = IMAGE, 9

    def prepare(self):
        self.branches = nn.ModuleList(conv(10, 9, k) for k in (1, 3, 5))
        self.weigh = nn.Linear(10, 3)

    def middle(self, x):
        found = torch.stack([branch(x) for branch in self.branches], 1)
        weights = self.weigh(x.mean((2, 3))).softmax(-1)
        return found.sum(1) + (found * weights[:, :, None, None, None]).sum(1)


class SplitCat(Between):
    """Halves, uneven parts and gates, put together again: a cross-stage partial block and a gated linear unit."""

    inputs, width, after = IMAGE, 14, 12

    def prepare(self):
        self.inner, self.gated = nn.Sequential(conv_norm(8, 11), conv_norm(11, 8)), conv(14, 24, 1)

    def middle(self, x):
        left, right = x.split([6, 8], 1)
        x = torch.cat([right + self.inner(right), left], 1)
        first, second = self.gated(x).chunk(2, 1)
        return F.glu(torch.cat([second, first], 1), 1)


class SharedConv(Between):
    """The same convolution and norm three times in a residual loop."""

    inputs = IMAGE

    def prepare(self):
        self.shared, self.norm = conv(10, 10, bias=False), nn.BatchNorm2d(10)

    def middle(self, x):
        for _ in range(3):
            x = x + torch.relu(self.norm(self.shared(x)))
        return x


class ScaleShift(Between):
    """Parameters of no layer in arithmetic: per channel and for all."""

    inputs = IMAGE

    def prepare(self):
        self.scale, self.shift = nn.Parameter(torch.randn(10, 1, 1)), nn.Parameter(torch.randn(1, 10, 1, 1))
        self.gain = nn.Parameter(torch.tensor(0.7))

    def middle(self, x):
        return self.gain * (self.scale * x + self.shift) - 0.5


class TwoInputs(nn.Module):
    """An image and a vector meet in a product; the logits and the features in front of them are outputs."""

    inputs = ((3, 12, 10), (7,))

    def __init__(self):
        super().__init__()
        self.image, self.vector, self.trunk = conv_norm(3, 9), nn.Linear(7, 9), conv_norm(9, 15)
        self.head, self.side = Tail(15), conv(15, 4, 1)

    def forward(self, image, vector):
        features = self.trunk(self.image(image) * torch.sigmoid(self.vector(vector))[:, :, None, None])
        return {"logits": self.head(features), "features": features, "side": self.side(features).mean((2, 3))}


class SigmoidGates(nn.Module):
    """What a GRU does in one step: a gate chooses between the old and the new."""

    inputs = ((14,),)

    def __init__(self):
        super().__init__()
        self.stem, self.gate, self.new = nn.Linear(14, 18), nn.Linear(18, 18), nn.Linear(18, 18)
        self.head = nn.Linear(18, 5)

    def forward(self, x):
        x = self.stem(x)
        gate = torch.sigmoid(self.gate(x))
        return self.head(gate * torch.tanh(self.new(x)) + (1 - gate) * x)


class BilinearLayer(nn.Module):
    """torch's layer with a weight of three axes, on two activations."""

    inputs = ((14,),)

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(14, 9), nn.Linear(14, 12)
        self.join, self.head = nn.Bilinear(9, 12, 7), nn.Linear(7, 5)

    def forward(self, x):
        return self.head(torch.relu(self.join(torch.relu(self.left(x)), torch.tanh(self.right(x)))))


class EmbeddingMean(nn.Module):
    """Means of embeddings, by hand and with a mask."""

    inputs = ((9,),)
    tokens = 37

    def __init__(self):
        super().__init__()
        self.embedding, self.hidden, self.head = nn.Embedding(37, 16), nn.Linear(16, 22), nn.Linear(22, 5)

    def forward(self, ids):
        mask = (ids > 5).unsqueeze(-1)
        x = (self.embedding(ids) * mask).sum(1) / mask.sum(1).clamp(min=1)
        return self.head(torch.relu(self.hidden(x)))


class InPlace(Between):
    """Writes: an activation, a sum, a slice set to zero, another one scaled through a view."""

    inputs, width = IMAGE, 9

    def prepare(self):
        self.first, self.second = conv(9, 10, 1), conv(9, 10, 1)

    def middle(self, x):
        x = self.first(x).relu_().add_(self.second(x))
        x[:, :4] = 0
        x[:, 6:].mul_(1.5)
        return x


class IndexBuffer(Between):
    """The channels are permuted and some are chosen by buffers."""

    inputs, after = IMAGE, 16

    def prepare(self):
        self.register_buffer("order", torch.randperm(10))
        self.register_buffer("chosen", torch.tensor([7, 1, 1, 9, 4, 0]))

    def middle(self, x):
        return torch.cat([x[:, self.order], torch.index_select(x, 1, self.chosen)], 1)


class RollChannels(Between):
    """Channels move by three, and turn around."""

    inputs = IMAGE

    def middle(self, x):
        return torch.roll(x, 3, 1) + x.flip(1) * 0.5


class CumsumChannels(Between):
    """Every channel is the sum of those up to it."""

    inputs = IMAGE

    def middle(self, x):
        return x.cumsum(1)


class BatchMatmul(nn.Module):
    """The product of two activations: channels of one by channels of the other."""

    inputs = IMAGE

    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = conv_norm(3, 8), conv_norm(3, 11), nn.Linear(88, 5)

    def forward(self, x):
        left, right = self.left(x).flatten(2), self.right(x).flatten(2)
        return self.head(torch.bmm(left, right.transpose(1, 2)).flatten(1) / left.shape[-1])


class SizeScale(Between):
    """The number of channels is a number in the arithmetic."""

    inputs = IMAGE

    def middle(self, x):
        return x * x.shape[1] ** -0.5 + x.sum(1, keepdim=True) / x.size(1)


class Tile(Between):
    """All channels twice in a row, and every channel twice."""

    inputs, after = IMAGE, 40

    def middle(self, x):
        return torch.cat([x.repeat(1, 2, 1, 1), x.repeat_interleave(2, 1)], 1)


class LearnedMask(Between):
    """A parameter's sign chooses between an activation and a learned value."""

    inputs = IMAGE

    def prepare(self):
        self.mask, self.fill = nn.Parameter(torch.randn(10, 1, 1)), nn.Parameter(torch.randn(10, 1, 1))

    def middle(self, x):
        return torch.where(self.mask > 0, x, self.fill * torch.sigmoid(self.mask))


class LogSoftmax(nn.Module):
    """The output is a logarithm of probabilities."""

    inputs = ((14,),)

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(14, 18), nn.BatchNorm1d(18), nn.Linear(18, 5)

    def forward(self, x):
        return F.log_softmax(self.second(F.elu(self.norm(self.first(x)))), -1)
