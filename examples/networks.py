"""The networks of the lottery papers, untrained, as files to start from.

    python examples/networks.py lenet-300-100 lenet.pt2
    sparsify lenet.pt2 --recipe examples/recipes/lenet-mnist-tickets.yaml --work run

Names: lenet-300-100 (28x28 images), conv-2, conv-4, conv-6, resnet-20, resnet-32, resnet-56 (32x32 images).
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

import sparsify as sp
from sparsify.demo_net import ResNet
from sparsify.program import Program

__all__ = ["NETWORKS", "network"]


def lenet_300_100() -> nn.Module:
    """Two hidden layers, for 28x28 images.

    Reference: LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998.
    """
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )


def conv(*widths: int) -> nn.Module:
    """Pairs of 3x3 convolutions with max-pooling, and three linear layers: small networks in the manner of VGG.

    Reference: Frankle and Carbin, The Lottery Ticket Hypothesis, 2019.
    """
    layers: list[nn.Module] = []
    inputs = 3
    for width in widths:
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        inputs = width
    size = inputs * (32 // 2 ** len(widths)) ** 2
    return nn.Sequential(
        *layers, nn.Flatten(),
        nn.Linear(size, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10),
    )  # fmt: skip


def resnet(blocks: int) -> nn.Module:
    """Three stages of basic blocks with 16, 32 and 64 channels, and projections where the shape changes.

    Reference: He et al., Deep Residual Learning for Image Recognition, 2016.
    """
    return ResNet([blocks] * 3, [16, 32, 64], channels=3)


NETWORKS = {
    "lenet-300-100": (lenet_300_100, (1, 28, 28)),
    "conv-2": (lambda: conv(64), (3, 32, 32)),
    "conv-4": (lambda: conv(64, 128), (3, 32, 32)),
    "conv-6": (lambda: conv(64, 128, 256), (3, 32, 32)),
    "resnet-20": (lambda: resnet(3), (3, 32, 32)),
    "resnet-32": (lambda: resnet(5), (3, 32, 32)),
    "resnet-56": (lambda: resnet(9), (3, 32, 32)),
}


def network(name: str, seed: int = 0) -> Program:
    """Return a network with the weights of a seed."""
    make, shape = NETWORKS[name]
    torch.manual_seed(seed)
    return sp.capture(make(), (torch.randn(8, *shape),))


def main() -> None:
    """Write a network to a file."""
    parser = argparse.ArgumentParser(description="Write an untrained network.")
    parser.add_argument("name", choices=NETWORKS)
    parser.add_argument("file", help="a .pt2 file")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    program = network(given.name, given.seed)
    sp.save(program, given.file)
    print(f"wrote {given.file}: {sum(value.numel() for value in program.parameters.values()):,} parameters")


if __name__ == "__main__":
    main()
