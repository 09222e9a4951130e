"""Small convolutional networks for the zoo: a class with `inputs` (shapes without the batch) is an entry of it."""

import torch
import torch.nn.functional as F
from torch import nn

IMAGE = ((3, 26, 21),)  # neither side, whole or halved, is a number of channels beside it


def conv(width, out, kernel=3, **more):
    """A convolution that keeps the size of the image when its kernel is odd."""
    return nn.Conv2d(width, out, kernel, **{"padding": kernel // 2, **more})


def conv_norm(width, out, kernel=3, **more):
    return nn.Sequential(conv(width, out, kernel, bias=False, **more), nn.BatchNorm2d(out), nn.ReLU())


class Tail(nn.Sequential):
    """Mean over the pixels and a classifier."""

    def __init__(self, width, out=5):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, out))


class DenseNet(nn.Module):
    """Every layer reads the concatenation of all before it: BN, ReLU, conv; transitions halve with an average pool."""

    inputs = ((3, 16, 12),)

    class Block(nn.Module):
        def __init__(self, width, growth, count):
            super().__init__()
            self.layers = nn.ModuleList(
                nn.Sequential(
                    nn.BatchNorm2d(width + i * growth), nn.ReLU(inplace=True), conv(width + i * growth, 15, 1),
                    nn.BatchNorm2d(15), nn.ReLU(inplace=True), conv(15, growth),
                )
                for i in range(count)
            )  # fmt: skip

        def forward(self, x):
            found = [x]
            for layer in self.layers:
                found.append(layer(torch.cat(found, 1)))
            return torch.cat(found, 1)

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 8)
        self.block1, self.block2 = self.Block(8, 6, 3), self.Block(11, 5, 2)
        self.transition = nn.Sequential(nn.BatchNorm2d(26), nn.ReLU(), conv(26, 11, 1, bias=False), nn.AvgPool2d(2))
        self.norm, self.tail = nn.BatchNorm2d(21), Tail(21)

    def forward(self, x):
        x = self.block2(self.transition(self.block1(self.stem(x))))
        return self.tail(torch.relu(self.norm(x)))


class Inception(nn.Module):
    """Four branches of different widths, concatenated, read by a convolution."""

    inputs = IMAGE

    def __init__(self):
        super().__init__()
        self.stem = conv_norm(3, 10)
        self.one, self.three = conv_norm(10, 6, 1), nn.Sequential(conv_norm(10, 7, 1), conv_norm(7, 9))
        self.five = nn.Sequential(conv_norm(10, 4, 1), conv_norm(4, 5, 5))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_norm(10, 8, 1))
        self.mix, self.tail = conv_norm(28, 13), Tail(13)

    def forward(self, x):
        x = self.stem(x)
        return self.tail(self.mix(torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)))


class Unet(nn.Module):
    """Down by max pools, up by transposed convolutions, with concatenated skips; one transposed one is grouped."""

    inputs = ((3, 16, 12),)

    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.bottom = conv_norm(3, 7), conv_norm(7, 11), conv_norm(11, 18)
        self.up2, self.up1 = nn.ConvTranspose2d(18, 10, 2, 2), nn.ConvTranspose2d(12, 8, 4, 2, 1, groups=2, bias=False)
        self.join2, self.join1 = conv_norm(21, 12), conv_norm(15, 9)
        self.norm, self.head = nn.BatchNorm2d(8), conv(9, 5, 1)

    def forward(self, x):
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        x = self.bottom(F.max_pool2d(two, 2))
        x = self.join2(torch.cat([self.up2(x), two], 1))
        x = self.join1(torch.cat((one, torch.relu(self.norm(self.up1(x)))), 1))
        return self.head(x)


class SuperResolution(nn.Module):
    """PixelShuffle turns blocks of four channels into pixels; another convolution reads the result."""

    inputs = ((3, 8, 6),)

    def __init__(self):
        super().__init__()
        self.first, self.second = conv(3, 10), conv(10, 28)
        self.shuffle, self.refine = nn.PixelShuffle(2), conv(7, 11)
        self.last = nn.Sequential(conv(11, 27, 1), nn.PixelShuffle(3))
        self.back = nn.PixelUnshuffle(2)
        self.head = conv(12, 5, 1)

    def forward(self, x):
        x = self.refine(torch.relu(self.shuffle(self.second(torch.relu(self.first(x))))))
        return self.head(self.back(self.last(torch.relu(x))))


class ShuffleNet(nn.Module):
    """Grouped 1x1 convolutions with a channel shuffle between them and a depthwise convolution."""

    inputs = IMAGE

    def __init__(self):
        super().__init__()
        self.stem, self.squeeze = conv_norm(3, 12), conv_norm(12, 18, 1, groups=3)
        self.depthwise = nn.Sequential(conv(18, 18, groups=18, bias=False), nn.BatchNorm2d(18))
        self.expand = nn.Sequential(conv(18, 12, 1, groups=3, bias=False), nn.BatchNorm2d(12))
        self.shuffle, self.tail = nn.ChannelShuffle(4), Tail(12)

    def forward(self, x):
        x = self.stem(x)
        y = self.squeeze(x)
        b, c, h, w = y.shape
        y = y.view(b, 3, c // 3, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.tail(self.shuffle(torch.relu(x + self.expand(self.depthwise(y)))))


class GroupedAfterCat(nn.Module):
    """A grouped convolution reads a concatenation whose border is inside one of its groups."""

    inputs = IMAGE

    def __init__(self):
        super().__init__()
        self.left, self.right = conv_norm(3, 10), conv_norm(3, 8)
        self.grouped, self.second = conv_norm(18, 12, groups=3), conv_norm(12, 20, 1, groups=4)
        self.tail = Tail(20)

    def forward(self, x):
        return self.tail(self.second(self.grouped(torch.cat([self.left(x), self.right(x)], 1))))


class GroupNormNet(nn.Module):
    """Group norms with a residual sum; the last has one group, so it is a norm of the whole image."""

    inputs = IMAGE

    def __init__(self):
        super().__init__()
        self.stem, self.norm1 = conv(3, 12), nn.GroupNorm(4, 12)
        self.first, self.norm2 = conv(12, 18), nn.GroupNorm(3, 18)
        self.second, self.norm3 = conv(18, 12), nn.GroupNorm(1, 12)
        self.tail = Tail(12)

    def forward(self, x):
        x = F.silu(self.norm1(self.stem(x)))
        return self.tail(F.silu(x + self.norm3(self.second(F.silu(self.norm2(self.first(x)))))))


class InstanceNormNet(nn.Module):
    """Instance norms: without parameters, with weight and bias, and with running statistics."""

    inputs = IMAGE

    def __init__(self):
        super().__init__()
        self.first, self.norm1 = conv(3, 8), nn.InstanceNorm2d(8)
        self.second, self.norm2 = conv(8, 11), nn.InstanceNorm2d(11, affine=True)
        self.third, self.norm3 = conv(11, 14), nn.InstanceNorm2d(14, affine=True, track_running_stats=True)
        self.tail = Tail(14)

    def forward(self, x):
        x = torch.relu(self.norm1(self.first(x)))
        return self.tail(torch.relu(self.norm3(self.third(F.leaky_relu(self.norm2(self.second(x)), 0.2)))))


class Volume(nn.Module):
    """Three-dimensional convolutions, norms, dropout and pools."""

    inputs = ((2, 6, 8, 5),)

    def __init__(self):
        super().__init__()
        self.first, self.norm1 = nn.Conv3d(2, 7, 3, padding=1), nn.BatchNorm3d(7)
        self.pool, self.drop = nn.MaxPool3d((2, 2, 1)), nn.Dropout3d(0.1)
        self.second, self.norm2 = nn.Conv3d(7, 10, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(10)
        self.up, self.mean = nn.ConvTranspose3d(10, 9, 2, 2), nn.AdaptiveAvgPool3d(1)
        self.head = nn.Linear(9, 5)

    def forward(self, x):
        x = self.drop(self.pool(torch.relu(self.norm1(self.first(x)))))
        x = torch.relu(self.up(torch.relu(self.norm2(self.second(x)))))
        return self.head(self.mean(x).flatten(1))


class SqueezeExcite(nn.Module):
    """Channels are multiplied with a gate that a bottleneck computes from their means."""

    inputs = IMAGE

    def __init__(self):
        super().__init__()
        self.stem, self.down, self.up = conv_norm(3, 14), nn.Linear(14, 6), nn.Linear(6, 14)
        self.body, self.down2, self.up2 = conv_norm(14, 18), conv(18, 4, 1), conv(4, 18, 1)
        self.tail = Tail(18)

    def forward(self, x):
        x = self.stem(x)
        gate = torch.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3))))))
        x = self.body(x * gate[:, :, None, None])
        return self.tail(x * F.hardsigmoid(self.up2(F.hardswish(self.down2(F.adaptive_avg_pool2d(x, 1))))))


class SpatialAttention(nn.Module):
    """The gate of CBAM: mean and maximum over the channels, a 7x7 convolution, one value per pixel."""

    inputs = IMAGE

    def __init__(self):
        super().__init__()
        self.stem, self.gate, self.tail = conv_norm(3, 11), conv(2, 1, 7, bias=False), Tail(11)
        self.mlp = nn.Sequential(nn.Linear(11, 4), nn.ReLU(), nn.Linear(4, 11))

    def forward(self, x):
        x = self.stem(x)
        channel = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))
        x = x * channel.unsqueeze(-1).unsqueeze(-1)
        pooled = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True).values], 1)
        return self.tail(x * torch.sigmoid(self.gate(pooled)))


class FlattenConv(nn.Module):
    """A linear layer reads the flattened image: a channel is a run of its columns."""

    inputs = IMAGE

    def __init__(self):
        super().__init__()
        self.body, self.pool = conv_norm(3, 9), nn.MaxPool2d(2)
        self.hidden, self.head = nn.Linear(9 * 130, 16), nn.Linear(16, 5)

    def forward(self, x):
        return self.head(torch.relu(self.hidden(torch.flatten(self.pool(self.body(x)), 1))))


class FlattenNhwc(nn.Module):
    """The channels are last when the image is flattened: a channel is every ninth column."""

    inputs = IMAGE

    def __init__(self):
        super().__init__()
        self.body, self.hidden, self.head = conv_norm(3, 9, stride=2), nn.Linear(9 * 143, 16), nn.Linear(16, 5)

    def forward(self, x):
        x = self.body(x).permute(0, 2, 3, 1)
        return self.head(torch.relu(self.hidden(x.reshape(x.shape[0], -1))))


class Pools(nn.Module):
    """Every kind of pool between convolutions; means and maxima side by side in front of the classifier."""

    inputs = ((3, 30, 26),)

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            conv_norm(3, 7), nn.MaxPool2d(3, 2, 1, ceil_mode=True), conv_norm(7, 10), nn.AvgPool2d(2), conv(10, 13),
            nn.LPPool2d(2, 2), conv_norm(13, 16), nn.AdaptiveAvgPool2d((3, 2)),
        )  # fmt: skip
        self.head = nn.Linear(16 * 3, 5)

    def forward(self, x):
        x = self.layers(x)
        pooled = [F.adaptive_max_pool2d(x, 1), F.adaptive_avg_pool2d(x, 1), x.sum((2, 3), keepdim=True)]
        return self.head(torch.cat(pooled, 1).flatten(1))


class Fpn(nn.Module):
    """A feature pyramid: lateral convolutions, bilinear and nearest upsampling, sums, three outputs' sum."""

    inputs = ((3, 16, 12),)

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = conv_norm(3, 8), conv_norm(8, 12, stride=2), conv_norm(12, 17, stride=2)
        self.lateral1, self.lateral2, self.lateral3 = conv(8, 10, 1), conv(12, 10, 1), conv(17, 10, 1)
        self.smooth, self.head = conv(10, 14), conv(14, 5, 1)

    def forward(self, x):
        one = self.one(x)
        two = self.two(one)
        top = self.lateral3(self.three(two))
        middle = self.lateral2(two) + F.interpolate(top, scale_factor=2, mode="nearest")
        bottom = self.lateral1(one) + F.interpolate(middle, size=one.shape[2:], mode="bilinear", align_corners=False)
        return self.head(torch.relu(self.smooth(bottom)))


class PadShortcut(nn.Module):
    """The shortcut of ResNet's option A: every second pixel, with channels of zeros on both sides."""

    inputs = IMAGE

    def __init__(self):
        super().__init__()
        self.stem, self.first = conv_norm(3, 8), conv_norm(8, 10, stride=2)
        self.second = nn.Sequential(conv(10, 14, bias=False), nn.BatchNorm2d(14))
        self.tail = Tail(14)

    def forward(self, x):
        x = self.stem(x)
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 3, 3))
        return self.tail(torch.relu(shortcut + self.second(self.first(x))))
