"""Coefficients: a trainable number for every head and neuron, which says how much of it the rest gets to see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn
from torch._subclasses import FakeTensorMode

from sparsify.graph import aten
from sparsify.groups import Group
from sparsify.layers import in_two_directions, layers
from sparsify.program import Program
from sparsify.shapes import fake, fake_mode

__all__ = ["Coefficients", "readers"]


@dataclass(frozen=True)
class _Reader:
    """A dimension of a weight that sums over a group: the index of the group at each of its positions."""

    parameter: str
    dim: int
    index: Tensor

    def spread(self, coefficients: Tensor, weight: Tensor) -> Tensor:
        """Return coefficients `[size]` in a shape that broadcasts to the weight's."""
        shape = [1] * weight.ndim
        shape[self.dim] = -1
        return coefficients[self.index.to(coefficients.device)].view(shape)


def readers(program: Program, groups: Sequence[Group]) -> dict[str, list[_Reader]]:
    """Return for every group, by name, the weights that sum over it; none where not all of what they read is of it.

    A coefficient on them is one on the values that they get, behind the activation or the attention.
    """
    known = layers(program)
    twice = in_two_directions(known)
    inputs = {layer.parameter: layer.layout.inputs for layer in known}
    found: dict[str, list[_Reader]] = {}
    for group in groups:
        members = [item for item in group.members if item.dim in inputs.get(item.parameter, ())]
        whole = all(len(item.index) == 1 and bool((item.index >= 0).all()) for item in members)
        own = whole and not any(item.parameter in twice for item in members)
        found[group.name] = [_Reader(item.parameter, item.dim, item.index[0]) for item in members] if own else []
    return found


@dataclass(frozen=True)
class Coefficients:
    """A program whose heads and neurons have trainable coefficients, one at first: c_i multiplies what is read of i.

    In the graph they multiply the weights that read a group, W_oi c_i, so that folding them in is one product, and
    the program that comes out is the one that went in, with other weights.

    Attributes:
        program: with the coefficients.
        names: of their parameters, by the group's name; each of shape [size of the group].

    Reference: Chen et al., "EarlyBERT: Efficient BERT Training via Early-bird Lottery Tickets", 2021.
    """

    program: Program
    names: dict[str, str]
    _plain: Program
    _readers: dict[str, list[_Reader]]

    @classmethod
    def on(cls, program: Program, groups: Sequence[Group]) -> Coefficients:
        """Put coefficients on groups; each must have `readers`."""
        found = readers(program, groups)
        parameters, buffers, names = dict(program.parameters), dict(program.buffers), dict[str, str]()
        for number, group in enumerate(groups):
            names[group.name] = _free(f"coefficients_{number}", program)
            weight = parameters[found[group.name][0].parameter]
            parameters[names[group.name]] = nn.Parameter(
                torch.ones(group.size, dtype=weight.dtype, device=weight.device)
            )
        graph = program.copy_graph()
        mode = fake_mode(program) or FakeTensorMode()
        for name, places in found.items():
            for number, reader in enumerate(places):
                index = _free(f"{names[name]}_index_{number}", program)
                weight = parameters[reader.parameter]
                buffers[index] = reader.index.to(weight.device)
                _multiply(graph, reader, (names[name], parameters[names[name]]), (index, buffers[index]), mode)
        changed = replace(program, graph=graph, parameters=parameters, buffers=buffers)
        return cls(changed, names, program, found)

    def folded(self, trained: Program) -> Program:
        """Return the program without coefficients that computes the same: they are in its weights."""
        plain = self._plain
        parameters = {name: trained.parameters[name] for name in plain.parameters}
        for name, places in self._readers.items():
            coefficients = trained.parameters[self.names[name]].detach()
            for reader in places:
                old = parameters[reader.parameter]
                value = old.detach() * reader.spread(coefficients, old)
                parameters[reader.parameter] = nn.Parameter(value, requires_grad=old.requires_grad)
        return replace(plain, parameters=parameters, buffers={name: trained.buffers[name] for name in plain.buffers})

    def magnitudes(self, trained: Program) -> dict[str, Tensor]:
        """Return |c| of every group, by its name, float64 on the CPU."""
        return {key: trained.parameters[name].detach().double().abs().cpu() for key, name in self.names.items()}


def _free(name: str, program: Program) -> str:
    while name in program.parameters or name in program.buffers:
        name += "_"
    return name


def _multiply(
    graph: fx.Graph, reader: _Reader, given: tuple[str, Tensor], index: tuple[str, Tensor], mode: FakeTensorMode
) -> None:
    """Multiply a weight with coefficients before anything reads it, also a mask or another coefficient."""
    weight = next(node for node in graph.nodes if node.op == "get_attr" and node.target == reader.parameter)
    value = weight.meta["val"]
    known = [node for node in graph.nodes if node.op == "get_attr" and node.target == given[0]]
    shape = [1] * value.ndim
    shape[reader.dim] = value.shape[reader.dim]
    first = next(iter(graph.nodes))
    with graph.inserting_before(first):
        own = known[0] if known else graph.create_node("get_attr", given[0])
        places = graph.create_node("get_attr", index[0])
    last = max((own, places, weight), key=list(graph.nodes).index)
    with graph.inserting_after(last):
        chosen = graph.call_function(aten.index_select.default, (own, 0, places))
    with graph.inserting_after(chosen):
        spread = graph.call_function(aten.view.default, (chosen, shape))
    with graph.inserting_after(spread):
        product = graph.call_function(aten.mul.Tensor, (weight, spread))
    own.meta["val"], places.meta["val"] = fake(given[1], mode), fake(index[1], mode)
    picked = given[1].detach()[index[1]]
    chosen.meta["val"], spread.meta["val"] = fake(picked, mode), fake(picked.view(shape), mode)
    product.meta["val"] = value
    weight.replace_all_uses_with(product, delete_user_cb=lambda user: user is not product)
