"""Names and plain containers for the outputs of a program."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from itertools import count
from typing import Any

from torch import Tensor, fx
from torch.utils import _pytree as pytree

from sparsify.program import Program

__all__ = ["distinct", "is_tensor", "output_leaves", "output_names", "plain_spec"]


def output_names(program: Program) -> list[str]:
    """Name every tensor among the outputs by its place: `logits`, `boxes_0`, `output_1`; a lone one is `output`.

    A program that was read from an ONNX file has the names of that file.
    """
    if program.names is not None:
        return list(program.names.outputs)
    spec = _out_spec(program)
    tree = pytree.tree_unflatten([object() for _ in range(spec.num_leaves)], plain_spec(program))
    paths = [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path(tree)[0]]
    tensors = [path for path, leaf in zip(paths, output_leaves(program.graph), strict=True) if is_tensor(leaf)]
    names = [re.sub(r"\W+", "_", path).strip("_") for path in tensors]
    names = [f"output_{name}" if name[:1].isdigit() else name or "output" for name in names]
    return distinct(names, {str(node.target) for node in program.placeholders})


def output_leaves(graph: fx.Graph) -> list[Any]:
    """Return what a graph returns, flat: nodes and constants."""
    node = next(node for node in reversed(list(graph.nodes)) if node.op == "output")
    return pytree.tree_leaves(node.args[0])


def is_tensor(leaf: Any) -> bool:
    """Whether an output is a tensor, not a number or None."""
    return isinstance(leaf, fx.Node) and isinstance(leaf.meta.get("val"), Tensor)


def distinct(names: list[str], taken: set[str]) -> list[str]:
    """Return the names, with a number after those that are taken or were there before."""
    taken, result = set(taken), []
    for name in names:
        free = name if name not in taken else next(n for i in count(1) if (n := f"{name}_{i}") not in taken)
        taken.add(free)
        result.append(free)
    return result


def plain_spec(program: Program) -> pytree.TreeSpec:
    """Return the structure of the output with dictionaries, lists and tuples in place of the model's own classes.

    A file must not depend on classes that its reader may not have.
    """
    spec = _out_spec(program)
    leaves = [_Leaf() for _ in range(spec.num_leaves)]
    return pytree.tree_structure(_plain(pytree.tree_unflatten(leaves, spec)))


class _Leaf:
    """Stands for a tensor."""


def _out_spec(program: Program) -> pytree.TreeSpec:
    spec = program.graph._codegen.pytree_info.out_spec  # type: ignore[attr-defined]
    assert isinstance(spec, pytree.TreeSpec)
    return spec


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {key: _plain(getattr(value, key)) for key in value._fields}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value)) if type(value) in (list, tuple) else tuple(map(_plain, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value
