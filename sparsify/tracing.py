"""Calling torch.export: with symbolic sizes where the model allows them, and without its chatter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from sparsify.program import Example, dynamic_sizes

__all__ = ["batch_dims", "batched", "export", "quiet"]

_UNLIMITED = 2**16  # a batch size that nobody reaches


def export(model: nn.Module, example: Example, dynamic: Sequence[Collection[int]] = ()) -> ExportedProgram:
    """Call torch.export in the mode the model is in, with symbolic sizes where the model allows them.

    Args:
        model: what to export.
        example: its inputs.
        dynamic: for every input the dimensions whose size should be symbolic; `batch_dims` gives the batch's. If not
            all can be, the first dimensions are tried alone, and then none.
    """
    batch = [{0} & set(dims) for dims in dynamic]
    with quiet():
        for wanted in [list(map(set, dynamic)), batch][: 1 if batch == list(map(set, dynamic)) else 2]:
            if not any(wanted):
                continue
            args, kwargs = _widened(example, wanted)
            shapes: Any = ShapesCollection()  # type: ignore[no-untyped-call]
            for leaf, dims in zip(pytree.tree_leaves((args, kwargs)), wanted, strict=True):
                if dims:
                    shapes[leaf] = dict.fromkeys(sorted(dims), Dim.AUTO)
            try:
                exported = torch.export.export(model, args, kwargs, dynamic_shapes=shapes)
            except Exception:  # noqa: BLE001 -- the symbolic sizes may be the cause: fewer of them decide
                continue
            if _is_free(exported, wanted):
                return exported
        return torch.export.export(model, example.args, dict(example.kwargs))


def batch_dims(example: Example) -> list[set[int]]:
    """Return for every input the dimension of the batch: the first of every tensor as long there as the first one."""
    chosen = {id(tensor) for tensor in batched(example.leaves())}
    return [{0} if id(leaf) in chosen else set() for leaf in example.leaves()]


def _is_free(exported: ExportedProgram, wanted: Sequence[Collection[int]]) -> bool:
    """Whether all sizes that should be are symbolic, and the batch may be any: a model that tests it narrows it."""
    specs = exported.graph_signature.input_specs
    names = [spec.arg.name for spec in specs if spec.kind is InputKind.USER_INPUT]
    nodes = {node.name: node for node in exported.graph.nodes if node.op == "placeholder"}
    sizes = [dynamic_sizes(nodes[name]) if name in nodes else {} for name in names]
    if len(sizes) != len(wanted) or any(set(dims) - set(own) for own, dims in zip(sizes, wanted, strict=True)):
        return False
    ranges = [exported.range_constraints.get(own[0]) for own in sizes if 0 in own]
    return all(r is not None and r.lower <= 2 and r.upper >= _UNLIMITED for r in ranges)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence torch's exporters, which talk by warnings, by logging and on both streams; their errors still come."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    sink = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def batched(leaves: list[Any]) -> list[Tensor]:
    """Return the tensors that are as long in their first dimension as the first of them."""
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.ndim]
    return [tensor for tensor in tensors if tensor.shape[0] == tensors[0].shape[0]]


def _widened(example: Example, wanted: Sequence[Collection[int]]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the example with symbolic sizes of at least two, every tensor a new object: export freezes a size of 1."""
    leaves, structure = pytree.tree_flatten((example.args, dict(example.kwargs)))
    widened = []
    for leaf, dims in zip(leaves, wanted, strict=True):
        value = leaf.clone() if isinstance(leaf, Tensor) else leaf
        for dim in dims:
            value = torch.cat([value, value], dim) if value.shape[dim] == 1 else value
        widened.append(value)
    return pytree.tree_unflatten(widened, structure)  # type: ignore[no-any-return]
