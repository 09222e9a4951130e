"""DenseNet-121 for the benchmarks, with the modules and sizes of the paper. Run on its own it does nothing.

Reference: Huang et al., "Densely Connected Convolutional Networks", 2017: growth 32, four 1x1 filters for every new
channel, and transitions that halve the channels.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

BLOCKS = (6, 12, 24, 16)
GROWTH, BOTTLENECK, STEM = 32, 4, 64


class Layer(nn.Module):
    """Makes new channels of all that came before, and puts them behind it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(BOTTLENECK * GROWTH)
        self.conv1 = nn.Conv2d(channels, BOTTLENECK * GROWTH, 1, bias=False)
        self.conv2 = nn.Conv2d(BOTTLENECK * GROWTH, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the input with the new channels."""
        new = self.conv2(torch.relu(self.norm2(self.conv1(torch.relu(self.norm1(x))))))
        return torch.cat([x, new], 1)


def densenet121(classes: int = 1000) -> nn.Module:
    """Return the network with random weights."""
    channels = STEM
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(3, STEM, 7, 2, 3, bias=False), norm=nn.BatchNorm2d(STEM), relu=nn.ReLU(),
        pool=nn.MaxPool2d(3, 2, 1),
    )  # fmt: skip
    for number, count in enumerate(BLOCKS, 1):
        parts[f"block{number}"] = nn.Sequential(*(Layer(channels + index * GROWTH) for index in range(count)))
        channels += count * GROWTH
        last = number == len(BLOCKS)
        after: list[nn.Module] = [nn.BatchNorm2d(channels), nn.ReLU()]
        if not last:
            after += [nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]
            channels //= 2
        parts["head" if last else f"transition{number}"] = nn.Sequential(*after)
    parts.update(average=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), classifier=nn.Linear(channels, classes))
    return nn.Sequential(parts)
