"""Structure: that the names of a graph fit together, that it has an order, and how large its functions make it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import onnx

from sparsify.errors import InputError

__all__ = ["check_arguments", "check_structure", "expanded_size"]

_Formal = onnx.defs.OpSchema.FormalParameterOption
_MANY = 100  # inputs; a definition that allows more sets no limit


def check_structure(graph: onnx.GraphProto, path: Path) -> None:
    """Check that every value is made once and before all that read it, in some order of the nodes.

    Raises:
        InputError: a name comes twice, a value is made nowhere, or nodes wait for each other in a circle.
    """
    constants = [tensor.name for tensor in graph.initializer]
    inputs = [value.name for value in graph.input if value.name not in set(constants)]
    maker: dict[str, int] = {}
    for number, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in maker:
                raise InputError(f"{path} is damaged: two nodes make {name!r:.100}.")
            maker[name] = number
    _check_distinct([*inputs, *constants, *maker], path)
    _check_distinct([value.name for value in graph.output], path)
    known = {*inputs, *constants, *maker}
    readers = [(node.op_type, name) for node in graph.node for name in node.input if name]
    readers += [("The output", value.name) for value in graph.output]
    if lost := next(((who, name) for who, name in readers if name not in known), None):
        raise InputError(f"{path} is damaged: {lost[0]:.80} reads {lost[1]!r:.100}, which nothing makes.")
    before = {number: {maker[name] for name in node.input if name in maker} for number, node in enumerate(graph.node)}
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        node = graph.node[error.args[1][0]]
        name = node.name or next(iter(node.output), "")
        raise InputError(f"{path} is damaged: {node.op_type:.80} {name!r:.100} waits for its own result.") from None


def check_arguments(nodes: Iterable[onnx.NodeProto], version: int, path: Path) -> None:
    """Check that operators of ONNX have the inputs and attributes that their definition says.

    Args:
        nodes: of the graph and of functions; operators that are not ONNX's are left out.
        version: of the operators (opset).
        path: of the file.

    Raises:
        InputError: an operator has too few or too many inputs or outputs, lacks one, or has an unknown attribute.
    """
    for node in nodes:
        if not onnx.defs.has(node.op_type, version):
            continue
        schema = onnx.defs.get_schema(node.op_type, version)
        who = f"{path} is damaged: {node.op_type:.80} {node.name or next(iter(node.output), '')!r:.100}"
        given, made = len(node.input), len(node.output)
        if not schema.min_input <= given <= schema.max_input:
            raise InputError(f"{who} has {given} inputs; it takes {_range(schema.min_input, schema.max_input)}.")
        if not schema.min_output <= made <= schema.max_output:
            raise InputError(f"{who} has {made} outputs; it gives {_range(schema.min_output, schema.max_output)}.")
        for formal, name in zip(schema.inputs, node.input, strict=False):
            if not name and formal.option == _Formal.Single:
                raise InputError(f"{who} lacks its input {formal.name}.")
        unknown = [item.name for item in node.attribute if item.name not in schema.attributes]
        if unknown:
            raise InputError(f"{who} has the attribute {unknown[0]!r:.100}, which opset {version} does not define.")
        needed = [name for name, item in schema.attributes.items() if item.required]
        if missing := set(needed) - {item.name for item in node.attribute}:
            raise InputError(f"{who} lacks its attribute {min(missing)}.")


def _range(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} or more" if most > least + _MANY else f"{least} to {most}"


def _check_distinct(names: Sequence[str], path: Path) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen or not name:
            raise InputError(f"{path} is damaged: the name {name!r:.100} is given to two values.")
        seen.add(name)


def expanded_size(proto: onnx.ModelProto, path: Path) -> int:
    """Return how many nodes a model has once all its functions are inlined; nothing is inlined for that.

    Raises:
        InputError: functions call each other in a circle.
    """
    functions = {(function.domain, function.name): function for function in proto.functions}
    if len(functions) < len(proto.functions):
        raise InputError(f"{path} has two functions of the same name, which sparsify does not tell apart.")
    calls = {
        key: {called for node in function.node if (called := (node.domain, node.op_type)) in functions}
        for key, function in functions.items()
    }
    try:
        order = list(TopologicalSorter(calls).static_order())
    except CycleError as error:
        raise InputError(f"{path} is damaged: its function {error.args[1][0][1]!r:.100} calls itself.") from None
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Sequence[onnx.NodeProto]) -> int:
        return sum(sizes.get((node.domain, node.op_type), 1) for node in nodes)

    for key in order:
        sizes[key] = size(functions[key].node)
    return size(proto.graph.node)
