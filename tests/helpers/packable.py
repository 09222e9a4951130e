"""A pruned network whose weights are worth packing: odd sizes, a convolution with its norm, a linear layer."""

import torch
from torch import nn

import sparsify as sp


def packable():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 37, 3), nn.BatchNorm2d(37), nn.ReLU(), nn.Flatten(), nn.Linear(37 * 36, 31))
    program = sp.capture(model, (torch.randn(2, 3, 8, 8),))
    return sp.run(program, ["weight-prune:sparsity=0.9,scope=layer"]).program
