"""Small networks for the zoo whose weights are computed, or that call an operator that nobody knows."""

import torch
import torch.nn.functional as F
from helpers.networks_conv import IMAGE, Tail, conv
from helpers.networks_odd import Between
from torch import nn
from torch.nn.utils import parametrizations


@torch.library.custom_op("zoo::mystery", mutates_args=())
def mystery(x: torch.Tensor) -> torch.Tensor:
    """Elementwise, which only its author knows."""
    return torch.sin(x) + x


@mystery.register_fake
def _(x):
    return torch.empty_like(x)


mystery.register_autograd(
    lambda ctx, grad: grad * (ctx.saved_tensors[0].cos() + 1),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


class Mystery(Between):
    """An operator that no library registers stands between two convolutions."""

    inputs = IMAGE

    def middle(self, x):
        return torch.ops.zoo.mystery(x)


class WeightNormConv(nn.Module):
    """Convolutions with torch's parametrization by direction and length."""

    inputs = IMAGE

    def __init__(self):
        super().__init__()
        self.first, self.second = (parametrizations.weight_norm(layer) for layer in (conv(3, 9), conv(9, 13)))
        self.tail = Tail(13)

    def forward(self, x):
        return self.tail(torch.relu(self.second(torch.relu(self.first(x)))))


class UnitNormConv(nn.Module):
    """The weight is divided by its length: of every filter, and of all filters together."""

    inputs = IMAGE

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(9, 3, 3, 3)), nn.Parameter(torch.randn(13, 9, 3, 3))
        self.bias, self.tail = nn.Parameter(torch.randn(9)), Tail(13)

    def forward(self, x):
        first = self.first / self.first.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        second = 5 * self.second / self.second.norm()
        return self.tail(torch.relu(F.conv2d(torch.relu(F.conv2d(x, first, self.bias)), second)))


class StandardizedConv(nn.Module):
    """Every filter has mean zero and variance one, times a learned gain."""

    inputs = IMAGE

    class Conv(nn.Conv2d):
        def __init__(self, width, out):
            super().__init__(width, out, 3, padding=1)
            self.gain = nn.Parameter(torch.ones(out, 1, 1, 1))

        def forward(self, x):
            var, mean = torch.var_mean(self.weight, (1, 2, 3), keepdim=True)
            weight = (self.weight - mean) * torch.rsqrt(var * self.weight[0].numel() + 1e-4) * self.gain
            return F.conv2d(x, weight, self.bias, self.stride, self.padding)

    def __init__(self):
        super().__init__()
        self.first, self.second, self.tail = self.Conv(3, 8), self.Conv(8, 12), Tail(12)

    def forward(self, x):
        return self.tail(torch.relu(self.second(torch.relu(self.first(x)))))
