"""What a program computes without some indices, at its full size: the truth that a smaller program is held to.

The indices are masked in all parameters. Where an operator depends on how many indices an axis has (a layer norm, a
softmax), masking is not removing: there the kept indices are taken out, the operator runs on them, and its result is
put back between zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from sparsify.axes import Axes
from sparsify.axes.axis import Axis, factors
from sparsify.axes.resize import Keep, Resizing, resized
from sparsify.axes.zeros import Flow, supposed
from sparsify.masking import masked
from sparsify.modes import evaluation_graph
from sparsify.verify import copied

__all__ = ["member_masks", "reference_outputs"]


def member_masks(axes: Axes, keep: Keep) -> dict[str, Tensor]:
    """Return the masks that take the indices out of every parameter: False in each row, column, ... that goes.

    They are views that repeat their values along the dimensions in which nothing goes.
    """
    resizing = Resizing(axes, keep)
    masks: dict[str, Tensor] = {}
    for node, dims in axes.dims.items():
        if node.op != "get_attr" or node.target not in axes.program.parameters:
            continue
        found: Tensor | None = None
        for dim, axis in enumerate(dims):
            if (kept := resizing.kept(axis)) is not None:
                shape = [1] * len(dims)
                shape[dim] = -1
                row = kept.view(torch.uint8).view(shape)  # torch multiplies bytes 20 times as fast as it joins truths
                found = row if found is None else found * row
        if found is not None:
            masks[str(node.target)] = found.view(torch.bool).expand([axis.size for axis in dims])
    return masks


def reference_outputs(axes: Axes, keep: Keep, leaves: list[Any]) -> list[Any]:
    """Run a program in evaluation mode without some indices, on flat inputs; return its flat outputs.

    Args:
        axes: of the program.
        keep: for each leaf that loses indices what it keeps.
        leaves: the inputs.
    """
    with torch.no_grad():
        run = _Reference(axes, keep, supposed(axes))
        return pytree.tree_leaves(run.run(*copied(leaves), enable_io_processing=False))


class _Reference(fx.Interpreter):
    def __init__(self, axes: Axes, keep: Keep, flow: Flow) -> None:
        program = masked(axes.program, member_masks(axes, keep))
        super().__init__(program.module(copy=False), garbage_collect_values=False)
        self._resizing = Resizing(axes, keep)
        self._small = {node.name: node for node in evaluation_graph(resized(axes, keep).graph).nodes}
        self._dims = {node.name: dims for node, dims in axes.dims.items()}
        self._contents = {node.name: content for node, content in axes.contents.items()}
        self._special = {node.name for node, leaves in flow.broken.items() if leaves & set(keep)}

    def run_node(self, n: fx.Node) -> Any:
        """Run a node, on the kept indices alone where their number matters."""
        small = self._small.get(n.name)
        if n.name not in self._special or small is None:
            return super().run_node(n)

        def gathered(node: fx.Node) -> Any:
            full = next(value for value in self.env if value.name == node.name)
            return self._gathered(full.name, self.env[full])

        args, kwargs = fx.map_arg((small.args, small.kwargs), gathered)
        result = small.target(*args, **kwargs)
        return self._scattered(n.name, result)

    def _gathered(self, name: str, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        content = self._contents.get(name)
        if isinstance(content, Axis) and (kept := self._resizing.kept(content)) is not None:
            value = (kept.cumsum(0) - 1)[value]
        for dim, axis in enumerate(self._dims.get(name, [])):
            if (kept := self._kept(axis, value.shape[dim], small=False)) is not None:
                value = value.index_select(dim, kept.nonzero().flatten())
        return value

    def _kept(self, axis: Axis, size: int, *, small: bool) -> Tensor | None:
        """Return which indices of a dimension are kept, given its full or its small size for these inputs."""
        kept = self._resizing.kept(axis)
        if kept is None or not axis.dynamic:
            return kept
        parts = factors(axis)
        masks = [self._resizing.kept(part) for part in parts]
        static = [
            int(mask.sum()) if small and mask is not None else part.size
            for part, mask in zip(parts, masks, strict=True)
            if not part.dynamic
        ]
        found = torch.ones(1, dtype=torch.bool)
        for part, mask in zip(parts, masks, strict=True):
            every = torch.ones(size // math.prod(static) if part.dynamic else part.size, dtype=torch.bool)
            found = (found[:, None] & (every if mask is None else mask)).flatten()
        return found

    def _scattered(self, name: str, result: Any) -> Any:
        dims, content = self._dims[name], self._contents.get(name)
        if isinstance(dims, tuple):
            contents = content if isinstance(content, dict) else {}
            return tuple(
                self._put_back(r, d, contents.get(i)) for i, (r, d) in enumerate(zip(result, dims, strict=True))
            )
        return self._put_back(result, dims, content)

    def _put_back(self, value: Tensor, dims: Iterable[Axis], content: Axis | None) -> Tensor:
        if content is not None and (kept := self._resizing.kept(content)) is not None:
            value = kept.nonzero().flatten()[value]
        for dim, axis in enumerate(dims):
            if (kept := self._kept(axis, value.shape[dim], small=True)) is not None:
                shape = list(value.shape)
                shape[dim] = len(kept)
                value = value.new_zeros(shape).index_copy(dim, kept.nonzero().flatten(), value)
        return value
