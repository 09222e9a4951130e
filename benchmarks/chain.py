"""Long chains of residual blocks, for the question how time grows. Does nothing on its own.

torch.export would take minutes for 50,000 nodes. One block is captured, and its nodes are repeated with parameters of
their own; the fake values are those of the first block, whose shapes are the same.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import replace

import torch
from torch import Tensor, fx, nn

import sparsify as sp
from sparsify.program import Program

WIDTH, INNER = 16, 24


class Block(nn.Module):
    """Two convolutions with batch norms, and an identity shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(WIDTH, INNER, 3, padding=1, bias=False), nn.BatchNorm2d(INNER)
        self.conv2, self.norm2 = nn.Conv2d(INNER, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum."""
        return torch.relu(x + self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))))


def network(count: int) -> nn.Module:
    """Return a stem, so many blocks and a head, with random weights."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 5))
    blocks = nn.Sequential(*(Block() for _ in range(count)))
    return nn.Sequential(OrderedDict(stem=nn.Conv2d(3, WIDTH, 3, padding=1), blocks=blocks, head=head)).eval()


def chain(model: nn.Module) -> Program:
    """Return the program of what `network` made."""
    one = sp.capture(network(1), (torch.randn(2, 3, 8, 8),))
    count = len(model.get_submodule("blocks"))
    nodes = list(one.graph.nodes)
    calls = [node for node in nodes if "blocks.0" in _modules(node)]
    entry, leave = calls[0].all_input_nodes[0], calls[-1]
    graph = fx.Graph()
    shared: dict[fx.Node, fx.Node] = {}
    own: list[dict[fx.Node, fx.Node]] = [{} for _ in range(count)]
    for node in nodes:
        if str(node.target).startswith("blocks.0."):
            for index, values in enumerate(own):
                values[node] = graph.node_copy(node)
                values[node].target = str(node.target).replace("blocks.0.", f"blocks.{index}.")
        elif node is calls[0]:
            for index, values in enumerate(own):
                values[entry] = own[index - 1][leave] if index else shared[entry]
                for call in calls:
                    values[call] = graph.node_copy(call, values.__getitem__)
            shared[leave] = own[-1][leave]
        elif node not in calls:
            shared[node] = graph.node_copy(node, shared.__getitem__)
    graph._codegen = copy.copy(one.graph._codegen)
    return replace(one, graph=graph, parameters=dict(model.named_parameters()), buffers=dict(model.named_buffers()))


def _modules(node: fx.Node) -> set[str]:
    """Return the paths of the modules that a node was called in."""
    return {path for path, _ in node.meta.get("nn_module_stack", {}).values()}
