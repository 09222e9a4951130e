"""Merging: channels that do nearly the same become one, which is read with the weights of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, fx, nn

from sparsify.groups import Group, Member
from sparsify.layers import Layer, layers
from sparsify.norms import batch_norms
from sparsify.program import Program
from sparsify.reconstruction.clustering import clusters

__all__ = ["Mergeable", "merged", "why_not"]


@dataclass(frozen=True)
class Mergeable:
    """A group whose channels one layer makes, perhaps with a batch norm behind it, and other layers read.

    Attributes:
        group: the channels.
        maker: the layer that makes them; with its norm, channel j is `rows_j · x + shift_j`.
        member: the dimension of its weight that they are.
        norm: the batch norm behind it.
        readers: the layers that read them, each with the dimension of its weight.
    """

    group: Group
    maker: Layer
    member: Member
    norm: fx.Node | None
    readers: Sequence[tuple[Layer, Member]]


def why_not(program: Program, group: Group) -> Mergeable | str:
    """Return a group with all that merging needs to know, or why its channels cannot be merged."""
    found = layers(program)
    by_weight = {layer.parameter: layer for layer in found}
    if any(len(member.index) != 1 for member in group.members):
        return "a weight has its channels several times"
    heavy = [(by_weight[m.parameter], m) for m in group.members if m.parameter in by_weight]
    makers = [(layer, m) for layer, m in heavy if m.dim in layer.layout.outputs]
    readers = [(layer, m) for layer, m in heavy if m.dim in layer.layout.inputs]
    if len(makers) != 1 or not readers:
        return f"{len(makers)} layers make its channels" if len(makers) != 1 else "no layer reads its channels"
    maker, member = makers[0]
    if not torch.equal(member.index[0], torch.arange(group.size)):
        return "they are not one by one the outputs of the layer that makes them"
    norm = next((node for node in batch_norms(program) if node.args[0] is maker.node), None)
    known = {maker.bias, *(_name(norm.args[place]) for place in (1, 2) if norm is not None)}
    others = [m.parameter for m in group.members if m.parameter not in by_weight and m.parameter not in known]
    if others:
        return f"{others[0]} belongs to its channels, too"
    return Mergeable(group, maker, member, norm, readers)


def merged(
    program: Program, found: Mergeable, count: int, method: Literal["mean", "cluster"]
) -> tuple[Program, Tensor]:
    """Merge the channels of a group until `count` different ones are left.

    The weights with which a channel was read are added to those of the channel that stands for it, scaled by how much
    larger the one is than the other: exact for equal channels, and for multiples behind ReLU or no activation. The
    channels that nobody reads any more are not removed here.

    Args:
        program: is not changed.
        found: what `why_not` returned.
        count: how many channels should be read.
        method: mean makes the channel that stands for a cluster the mean of all; cluster keeps its largest one.

    Returns:
        The program, and booleans `[size]`: False for channels that nobody reads any more.
    """
    rows, shifts, factor = _affine(program, found)
    vectors = torch.cat([rows, shifts[:, None]], 1)
    label = clusters(vectors.cpu(), count).to(vectors.device)
    norms = vectors.norm(dim=1)
    stands = torch.stack([torch.where(label == number, norms, -1.0).argmax() for number in range(count)])
    new = dict[str, Tensor]()
    centres = vectors[stands]
    if method == "mean":
        sizes = torch.bincount(label, minlength=count)[:, None]
        centres = torch.zeros_like(centres).index_add_(0, label, vectors) / sizes
        new |= _made(program, found, stands, centres, factor)
    share = (vectors * centres[label]).sum(1) / centres[label].square().sum(1).clamp_min(1e-30)
    for layer, member in found.readers:
        weight = new.get(layer.parameter, program.parameters[layer.parameter].detach())
        new[layer.parameter] = _read(weight, member, stands[label], share.clamp_min(0.0))
    kept = torch.zeros(len(label), dtype=torch.bool)
    kept[stands.cpu()] = True
    return _with(program, new), kept


def _affine(program: Program, found: Mergeable) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows `[size, n]` and shifts `[size]`, and the factors by which the norm scales the weight's rows."""
    size, maker = found.group.size, found.maker
    weight = program.parameters[maker.parameter].detach()
    rows = weight.movedim(found.member.dim, 0).reshape(size, -1).float()
    bias = program.parameters[maker.bias].detach().float() if maker.bias else rows.new_zeros(size)
    if found.norm is None:
        return rows, bias, rows.new_ones(size)
    args = found.norm.args
    gamma, beta, mean, variance = (
        rows.new_full((size,), float(place == 1)) if args[place] is None else _tensor(program, args[place]).float()
        for place in (1, 2, 3, 4)
    )
    factor = gamma / (variance + float(args[7])).sqrt()  # type: ignore[arg-type]
    return rows * factor[:, None], beta + (bias - mean) * factor, factor


def _made(program: Program, found: Mergeable, stands: Tensor, centres: Tensor, factor: Tensor) -> dict[str, Tensor]:
    """Return the maker's tensors with which some channels become the given rows and shifts; its norm stays."""
    maker = found.maker
    weight = program.parameters[maker.parameter].detach()
    scale = factor[stands]
    scale = torch.where(scale.abs() < 1e-8, 1.0, scale)
    turned = weight.movedim(found.member.dim, 0).clone()
    turned[stands] = (centres[:, :-1] / scale[:, None]).view(-1, *turned.shape[1:]).to(turned.dtype)
    new = {maker.parameter: turned.movedim(0, found.member.dim)}
    shift = None if found.norm is None else _name(found.norm.args[2])
    place = shift or maker.bias
    if place:
        _, shifts, _ = _affine(program, found)
        moved = (centres[:, -1] - shifts[stands]) / (1.0 if shift else scale)
        new[place] = program.parameters[place].detach().clone().index_add_(0, stands, moved.to(weight.dtype))
    return new


def _read(weight: Tensor, member: Member, stands_for: Tensor, share: Tensor) -> Tensor:
    """Return a reader's weight in which every channel's weights are added to those of the one that stands for it."""
    order = _order(member).to(weight.device)
    turned = weight.movedim(member.dim, 0).clone()
    rows = turned[order].reshape(len(share), -1).float()
    summed = torch.zeros_like(rows).index_add_(0, stands_for, rows * share[:, None])
    turned[order] = summed.view(-1, *turned.shape[1:]).to(weight.dtype)
    return turned.movedim(0, member.dim)


def _order(member: Member) -> Tensor:
    """Return the positions of a dimension channel by channel; other channels may be between them."""
    index = member.index[0]
    return torch.argsort(index, stable=True)[int((index < 0).sum()) :]


def _name(value: object) -> str | None:
    """Return the name of the tensor that a value is, perhaps masked."""
    if not isinstance(value, fx.Node):
        return None
    return str(value.target) if value.op == "get_attr" else _name(value.all_input_nodes[-1])


def _tensor(program: Program, value: object) -> Tensor:
    state: Mapping[str, Tensor] = {**program.parameters, **program.buffers}
    return state[_name(value) or ""].detach()


def _with(program: Program, new: Mapping[str, Tensor]) -> Program:
    parameters = {
        name: nn.Parameter(new[name].contiguous(), requires_grad=old.requires_grad) if name in new else old
        for name, old in program.parameters.items()
    }
    return replace(program, parameters=parameters)
