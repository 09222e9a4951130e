"""Names and plain containers for the outputs of a program."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from torch.utils import _pytree as pytree

from sparsify.program import Program

__all__ = ["output_names", "plain_spec"]


def output_names(program: Program) -> list[str]:
    """Name every output by its place: `logits`, `boxes_0`, `output_1`; a lone tensor is `output`."""
    spec = _out_spec(program)
    tree = pytree.tree_unflatten([object() for _ in range(spec.num_leaves)], plain_spec(program))
    paths = [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path(tree)[0]]
    names = [re.sub(r"\W+", "_", path).strip("_") for path in paths]
    return [f"output_{name}" if name.isdigit() else name or "output" for name in names]


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
