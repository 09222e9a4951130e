"""Graphs as text, and the user's line behind a node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx

__all__ = ["source_line", "text", "type_text", "where_from"]


def source_line(node: fx.Node) -> str | None:
    """Return the line of the user's model that made `node`, as `file:line: code`, or None when it is not known."""
    frames = re.findall(r'File "([^"]+)", line (\d+), in [^\n]+\n\s*(.+)', node.meta.get("stack_trace") or "")
    own = [frame for frame in frames if "/torch/" not in frame[0]]
    if not own:
        return None
    file, line, code = own[-1]
    return f"{file}:{line}: {code.strip()}"


def where_from(node: fx.Node) -> str:
    """Return a node's name and operator, and the user's line that made it, for a message."""
    line = source_line(node)
    return f"{node.name} ({node.target}), made by {line}" if line else f"{node.name} ({node.target})"


def text(graph: fx.Graph) -> str:
    """Return the canonical text of a graph, one line for each node."""
    return "\n".join(_lines(graph))


def _lines(graph: fx.Graph) -> Iterator[str]:
    for node in graph.nodes:
        if node.op == "get_attr":
            continue
        if node.op == "placeholder":
            yield f"%{node.name}: {type_text(node)} = input"
        elif node.op == "output":
            yield f"return {_argument(node.args[0])}"
        else:
            arguments = [_argument(a) for a in node.args] + [f"{k}={_argument(v)}" for k, v in node.kwargs.items()]
            yield f"%{node.name}: {type_text(node)} = {_operator(node)}({', '.join(arguments)})"


def _operator(node: fx.Node) -> str:
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return str(target).removeprefix("aten.").removesuffix(".default")
    return str(getattr(target, "__name__", target))


def _argument(value: Any) -> str:
    if isinstance(value, fx.Node):
        return str(value.target) if value.op == "get_attr" else f"%{value.name}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_argument, value))}]"
    return str(value)


def type_text(node: fx.Node) -> str:
    """Write the type of a node's value: `float32[s0, 16, 8, 8]`."""
    value = node.meta.get("val")
    return "?" if value is None else _type_of(value)


def _type_of(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}[{', '.join(map(str, value.shape))}]"
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(_type_of, value))})"
    return type(value).__name__
