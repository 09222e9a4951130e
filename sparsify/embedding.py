"""Embeddings: parameters that the graph makes of others, Θ = Ψ(ϑ), with fewer trainable values than they have.

In the graph an embedded parameter is a few operators on the state, and a node `sparsify.parameter(value, name)` behind
them, which says whose value it is. What is trained are the parameters that Ψ reads; `folded` writes Θ out again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from sparsify.errors import PassError
from sparsify.graph import ancestors, attribute, mask_nodes
from sparsify.kernels.parameter import parameter
from sparsify.program import Program
from sparsify.shapes import fake, fake_mode, without_guards

__all__ = ["Embedding", "embedded", "embedded_names", "folded", "making", "unused"]


@dataclass(frozen=True)
class Embedding:
    """How one parameter is made.

    Attributes:
        function: returns Θ of the tensors that `reads` names, in their order; torch's own operators and those of
            sparsify become nodes of the graph.
        reads: names of parameters and buffers; several embeddings may read the same.
        traced: `function` becomes the operators that it calls. Otherwise it is called as it is, which lets it have
            gradients of its own (`torch.autograd.Function`); such a program can be trained but not saved.
    """

    function: Callable[..., Tensor]
    reads: Sequence[str]
    traced: bool = True


def embedded(
    program: Program,
    embeddings: Mapping[str, Embedding],
    *,
    trainable: Mapping[str, Tensor] | None = None,
    fixed: Mapping[str, Tensor] | None = None,
) -> Program:
    """Return the program with some parameters made of others; a parameter that nothing reads any more is dropped.

    Args:
        program: any program.
        embeddings: by the name of the parameter that each makes.
        trainable: parameters that they read and the program lacks, or has with other values.
        fixed: buffers that they read, likewise.

    Raises:
        PassError: a parameter is masked or embedded already, or what is made of it has another shape.
        KeyError: there is no such parameter, or nothing of a name that is read.
    """
    more = {name: nn.Parameter(value.detach().clone()) for name, value in (trainable or {}).items()}
    after = replace(
        program,
        parameters={**program.parameters, **more},
        buffers={**program.buffers, **(fixed or {})},
    )
    taken = {str(node.all_input_nodes[1].target) for node in mask_nodes(program.graph)} | set(embedded_names(program))
    if again := [name for name in embeddings if name in taken]:
        raise PassError(f"{again[0]} is masked or embedded already; `--pass fold` writes such a weight out.")
    graph = program.copy_graph()
    weights = {str(node.target): node for node in graph.nodes if node.op == "get_attr"}
    mode = fake_mode(program) or FakeTensorMode()
    state = {**after.parameters, **after.buffers}
    last = next(node for node in graph.nodes if node.op != "get_attr")
    known: dict[str, fx.Node] = {}
    for name, embedding in embeddings.items():
        for read in embedding.reads:
            if read not in weights:
                weights[read] = attribute(graph, read)
                weights[read].meta["val"] = fake(state[read], mode)
        uses = list(weights[name].users)
        made = _inserted(embedding, [weights[read] for read in embedding.reads], mode, last, known)
        wanted, found = program.parameters[name], made.meta["val"]
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            raise PassError(
                f"The embedding of {name} makes {found.dtype}{list(found.shape)}, and it is "
                f"{wanted.dtype}{list(wanted.shape)}."
            )
        with graph.inserting_before(last):
            marked = graph.call_function(parameter, (made, name))
        marked.meta["val"] = found
        weights[name].replace_all_uses_with(marked, delete_user_cb=uses.__contains__)
    return after.with_graph(graph)


def embedded_names(program: Program) -> tuple[str, ...]:
    """Return the names of the parameters that the graph makes of others, in the order in which it does."""
    return tuple(str(node.args[1]) for node in _markers(program.graph))


def making(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes that make embedded parameters, what they read and the markers included."""
    return ancestors(_markers(graph))


def unused(program: Program, name: str) -> str:
    """Return a name for a new parameter or buffer: this one, with underscores if it is taken."""
    while name in program.parameters or name in program.buffers:
        name += "_"
    return name


def folded(program: Program) -> Program:
    """Return the program with all embedded parameters written out: parameters again, of their own names."""
    markers = _markers(program.graph)
    if not markers:
        return program
    values = _values(program, markers)
    graph = program.copy_graph()
    parameters = dict(program.parameters)
    for node in _markers(graph):
        name = str(node.args[1])
        parameters[name] = nn.Parameter(values[name])
        read = attribute(graph, name)
        read.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(read)
    return replace(program, parameters=parameters).with_graph(graph)


def _values(program: Program, markers: Sequence[fx.Node]) -> dict[str, Tensor]:
    """Compute the values of embedded parameters, by their names."""
    state = {**program.parameters, **program.buffers}
    needed, known = ancestors(markers), dict[fx.Node, Any]()
    with torch.no_grad():
        for node in program.graph.nodes:
            if node in needed and node.op == "get_attr":
                known[node] = state[str(node.target)]
            elif node in needed:
                args, kwargs = fx.map_arg((node.args, node.kwargs), known.__getitem__)
                known[node] = node.target(*args, **kwargs)
    return {str(node.args[1]): known[node].clone() for node in markers}


def _markers(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.target is parameter]


def _inserted(
    embedding: Embedding, reads: list[fx.Node], mode: Any, before: fx.Node, known: dict[str, fx.Node]
) -> fx.Node:
    """Insert what makes a parameter before a node; return the node that has it. What is `known` is not made again."""
    graph, fakes = before.graph, [node.meta["val"] for node in reads]
    with mode, torch.no_grad(), without_guards(mode), graph.inserting_before(before):
        if not embedding.traced:
            node = graph.call_function(_plain(embedding.function), tuple(reads))
            node.meta["val"] = embedding.function(*fakes)
            return node
        traced = make_fx(embedding.function, pre_dispatch=True)(*fakes)
        places = dict(zip((n for n in traced.graph.nodes if n.op == "placeholder"), reads, strict=True))
        for inner in traced.graph.nodes:
            if inner.op == "output":
                found: fx.Node = places[inner.args[0]]
                return found
            if inner.op == "call_function":
                key = inner.target, *fx.map_arg((inner.args, inner.kwargs), places.__getitem__)
                if str(key) not in known:
                    known[str(key)] = graph.node_copy(inner, places.__getitem__)
                    known[str(key)].meta = {"val": inner.meta["val"]}
                places[inner] = known[str(key)]
            elif inner.op != "placeholder":
                raise TypeError(f"an embedding must not hold {inner.target}: name it in `reads`")
    raise AssertionError


def _plain(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a function that a graph may call: the code of a graph finds those of torch by their names."""

    def made(*values: Tensor) -> Tensor:
        return function(*values)

    return made
