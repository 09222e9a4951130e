"""Norms: the normalisation operators of a program and the parameters that scale what they return."""

from __future__ import annotations

from torch import fx

from sparsify.axes.op import key_of
from sparsify.graph import is_mask
from sparsify.program import Program

__all__ = ["batch_norms", "norm_parameters", "norm_scales", "norms", "with_batch_statistics"]

_SCALE = {  # where each operator has its scale
    "aten::batch_norm": 1,
    "aten::instance_norm": 1,
    "aten::layer_norm": 2,
    "aten::rms_norm": 2,
    "aten::group_norm": 2,
}


def norm_scales(program: Program) -> frozenset[str]:
    """Return the names of the parameters that scale the result of a norm.

    A norm that a model writes out (a product with a vector, as in many an RMS norm) is found by that product: the
    scale is a parameter of one dimension that multiplies a value.
    """
    found: set[str] = set()
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        name = key_of(node)
        if name in _SCALE:
            found.update(name for value in node.args[_SCALE[name] :][:1] for name in _parameter(value, program))
        elif name == "aten::mul":
            found.update(name for value in node.args[:2] for name in _parameter(value, program))
    return frozenset(name for name in found if program.parameters[name].ndim == 1)


def norms(program: Program) -> list[tuple[str, ...]]:
    """Return the names of the parameters that scale or shift the result of each norm that has some, those together."""
    found = dict[tuple[str, ...], None]()
    for node in program.graph.nodes:
        place = _SCALE.get(key_of(node)) if node.op == "call_function" else None
        if place is not None:
            found[tuple(name for value in node.args[place : place + 2] for name in _parameter(value, program))] = None
    known = {name for names in found for name in names}
    written = [(name,) for name in sorted(norm_scales(program) - known)]
    return [*filter(None, found), *written]


def norm_parameters(program: Program) -> frozenset[str]:
    """Return the names of the parameters that scale or shift the result of a norm."""
    return frozenset(name for names in norms(program) for name in names)


def _parameter(value: object, program: Program) -> list[str]:
    """Return the parameter that a value is, perhaps masked."""
    if not isinstance(value, fx.Node):
        return []
    if value.op == "get_attr":
        return [str(value.target)] if value.target in program.parameters else []
    return _parameter(value.args[1], program) if is_mask(value) else []


def batch_norms(program: Program) -> list[fx.Node]:
    """Return the batch norms with running statistics that are buffers of the program."""
    nodes = [node for node in program.graph.nodes if node.op == "call_function" and key_of(node) == "aten::batch_norm"]
    return [node for node in nodes if all(_is_buffer(node.args[place], program) for place in (3, 4))]


def with_batch_statistics(program: Program) -> Program:
    """Return the program with batch norms that normalise by the batch they see, in evaluation mode, too."""
    graph = program.copy_graph()
    names = {node.name for node in batch_norms(program)}
    for node in graph.nodes:
        if node.name in names:
            node.args = (*node.args[:3], None, None, *node.args[5:])
    return program.with_graph(graph)


def _is_buffer(value: object, program: Program) -> bool:
    return isinstance(value, fx.Node) and value.target in program.buffers
