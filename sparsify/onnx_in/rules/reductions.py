"""Reductions, and what orders or accumulates along an axis."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from sparsify.onnx_in.op import RULES, Op, onnx_rule

Reduce = Callable[[Tensor, list[int], bool], Tensor]


def _prod(x: Tensor, dims: list[int], keep: bool) -> Tensor:
    for dim in sorted((dim % x.ndim for dim in dims), reverse=True):
        x = torch.prod(x, dim, keepdim=keep)
    return x


_REDUCTIONS: dict[str, Reduce] = {
    "ReduceL1": lambda x, dims, keep: x.abs().sum(dims, keepdim=keep),
    "ReduceL2": lambda x, dims, keep: torch.linalg.vector_norm(x, 2, dims, keepdim=keep),
    "ReduceLogSum": lambda x, dims, keep: x.sum(dims, keepdim=keep).log(),
    "ReduceLogSumExp": lambda x, dims, keep: torch.logsumexp(x, dims, keepdim=keep),
    "ReduceMax": lambda x, dims, keep: torch.amax(x, dims, keepdim=keep),
    "ReduceMean": lambda x, dims, keep: torch.mean(x, dims, keepdim=keep),
    "ReduceMin": lambda x, dims, keep: torch.amin(x, dims, keepdim=keep),
    "ReduceProd": _prod,
    "ReduceSum": lambda x, dims, keep: torch.sum(x, dims, keepdim=keep, dtype=x.dtype),
    "ReduceSumSquare": lambda x, dims, keep: x.square().sum(dims, keepdim=keep),
}


def _reduced(op: Op, function: Reduce) -> Tensor:
    x, dims = op.tensor(0), op.axes(1)
    if not dims:
        if op.attribute("noop_with_empty_axes", 0):
            return torch.clone(x)
        dims = list(range(x.ndim))
    return function(x, dims, bool(op.attribute("keepdims", 1))) if x.ndim else torch.clone(x)


for _name, _function in _REDUCTIONS.items():
    RULES[_name] = functools.partial(_reduced, function=_function)


@onnx_rule("ArgMax", "ArgMin")
def arg_max(op: Op) -> Tensor:
    """The place of the largest or smallest value, the first or the last of equal ones."""
    x, keep = op.tensor(0), bool(op.attribute("keepdims", 1))
    axis = op.attribute("axis", 0) % x.ndim
    function = torch.argmax if op.step.type == "ArgMax" else torch.argmin
    if op.attribute("select_last_index", 0):
        last: Tensor = x.shape[axis] - 1 - function(x.flip(axis), axis, keepdim=keep)
        return last
    return function(x, axis, keepdim=keep)


@onnx_rule("TopK")
def top_k(op: Op) -> tuple[Tensor, Tensor]:
    """The largest or smallest values along an axis, and their places."""
    found = torch.topk(
        op.tensor(0), op.number(1), op.attribute("axis", -1), bool(op.attribute("largest", 1)),
        bool(op.attribute("sorted", 1)),
    )  # fmt: skip
    return found.values, found.indices


@onnx_rule("CumSum")
def cumsum(op: Op) -> Tensor:
    """The sum of all values before, with or without the own, from either end."""
    x, axis = op.tensor(0), int(op.number(1))
    if op.attribute("reverse", 0):
        x = x.flip(axis)
    found = torch.cumsum(x, axis, dtype=x.dtype)
    if op.attribute("exclusive", 0):
        before = found.narrow(axis, 0, x.shape[axis] - 1)
        found = torch.cat((torch.zeros_like(x.narrow(axis, 0, 1)), before), axis)
    return found.flip(axis) if op.attribute("reverse", 0) else found
