"""Masks in a graph: a masked weight is `where(mask, weight, 0)`, and the mask is a buffer beside the weight."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, fx, nn
from torch._subclasses import FakeTensorMode

from sparsify.errors import PassError
from sparsify.graph import mask_nodes
from sparsify.naming import first_names
from sparsify.program import Program
from sparsify.shapes import fake, fake_mode

__all__ = ["baked", "forgotten", "masked", "unmasked", "with_masks", "with_strides"]


def masked(program: Program, masks: Mapping[str, Tensor]) -> Program:
    """Return the program with some weights masked; a weight that is masked already keeps only what both masks keep.

    Args:
        program: any program.
        masks: by parameter name, boolean tensors of the parameters' shapes, True where the weight is kept.

    Raises:
        PassError: a weight is frozen in part: its mask says which values are trained, not which are zero.
        KeyError: there is no such parameter.
        ValueError: a mask has another shape or type.
    """
    if still := [name for name in masks if name in program.frozen]:
        raise PassError(
            f"{first_names(still)} is frozen in part, and cannot be pruned as well. Prune first, or write it out with "
            "`--pass fold`."
        )
    graph = program.copy_graph()
    attributes = [node for node in graph.nodes if node.op == "get_attr"]
    weights = {str(node.target): node for node in attributes}
    known = {str(node.all_input_nodes[1].target): str(node.all_input_nodes[0].target) for node in mask_nodes(graph)}
    buffers = dict(program.buffers)
    mode = fake_mode(program) or FakeTensorMode()
    fakes: dict[Hashable, Tensor] = {}
    for name, mask in masks.items():
        weight = program.parameters[name]
        if mask.dtype != torch.bool or mask.shape != weight.shape:
            raise ValueError(f"the mask of {name} is {mask.dtype}{list(mask.shape)}, not bool{list(weight.shape)}")
        if name in known:
            buffers[known[name]] = buffers[known[name]] & mask.to(weight.device)
            continue
        target = f"{name}_mask"
        while target in buffers or target in program.parameters:
            target += "_"
        buffers[target] = with_strides(mask, weight)
        layout = mask.shape, buffers[target].stride(), weight.device
        if layout not in fakes:
            fakes[layout] = fake(buffers[target], mode)
        _insert(graph, weights[name], target, fakes[layout], attributes[-1])
    return replace(program, graph=graph, buffers=buffers)


def with_masks(program: Program, masks: Mapping[str, Tensor]) -> Program:
    """Return the program with other masks in the place of those that it has, by parameter name."""
    buffers = dict(program.buffers)
    for node in mask_nodes(program.graph):
        mask, weight = (str(value.target) for value in node.all_input_nodes[:2])
        if weight in masks:
            buffers[mask] = with_strides(masks[weight], program.parameters[weight])
    return replace(program, buffers=buffers)


def baked(program: Program) -> Program:
    """Return the program with its masks written into the weights: pruned weights are zeros, and no mask is left."""
    graph = program.copy_graph()
    parameters = dict(program.parameters)
    for node in mask_nodes(graph):
        mask, weight = (str(value.target) for value in node.all_input_nodes[:2])
        if mask not in program.buffers or weight not in parameters or node.args[2] != 0:
            continue
        old = parameters[weight]
        value = torch.where(program.buffers[mask], old.detach(), 0.0)
        parameters[weight] = nn.Parameter(value, requires_grad=old.requires_grad)
        node.replace_all_uses_with(node.all_input_nodes[1])
    return replace(program, parameters=parameters).with_graph(graph)


def unmasked(program: Program) -> Program:
    """Return the program with its masks taken off: it computes what it did before they were written."""
    graph = program.copy_graph()
    for node in mask_nodes(graph):
        if str(node.all_input_nodes[0].target) in program.buffers:
            node.replace_all_uses_with(node.all_input_nodes[1])
    return program.with_graph(graph)


def forgotten(program: Program) -> bool:
    """Tell whether nothing is known of the weights under the masks: all are zeros, as a retraining leaves them."""
    gone = [program.parameters[name].detach()[~mask] for name, mask in program.masks.items()]
    return any(len(values) for values in gone) and not any(bool(values.any()) for values in gone)


def with_strides(mask: Tensor, weight: Tensor) -> Tensor:
    """Return a mask with the device and the strides of its weight.

    Of a convolution with other strides, if only in dimensions of size one, torch computes channels last.
    """
    mask = mask.to(weight.device)
    if mask.stride() == weight.stride():
        return mask
    return torch.empty_like(weight, dtype=torch.bool, requires_grad=False).copy_(mask)


def _insert(graph: fx.Graph, weight: fx.Node, target: str, value: Tensor, after: fx.Node) -> None:
    with graph.inserting_after(weight):
        mask = graph.create_node("get_attr", target)
    with graph.inserting_after(after if after is not weight else mask):
        node = graph.call_function(torch.ops.aten.where.ScalarOther, (mask, weight, 0.0))
    mask.meta["val"], node.meta["val"] = value, weight.meta["val"]
    weight.replace_all_uses_with(node, delete_user_cb=lambda user: user is not node)
