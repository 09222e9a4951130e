"""Verification: what every program must satisfy, and what a pass with a contract must keep.

`check` is run on the result of every pass; `equivalent` proves an EXACT pass by translation validation: both programs
are run on the example and on random inputs of another batch size, and the first node that differs is named.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from sparsify.errors import ContractError, PassError, first_line
from sparsify.graph_text import where_from
from sparsify.inputs import drawn_like
from sparsify.modes import evaluation_graph
from sparsify.program import Program, dynamic_sizes
from sparsify.shapes import KnownShapes, propagate_shapes

__all__ = [
    "check",
    "copied",
    "difference",
    "equivalent",
    "outputs",
    "same_bits",
    "signature",
    "tolerance",
    "trial_inputs",
]


_MASK = 1e30  # beyond this a number stands for minus infinity


def check(program: Program, known: KnownShapes | None = None) -> None:
    """Check the graph's form, derive all shapes again and run the program on its example.

    Raises:
        PassError: the graph is malformed, a node's shapes do not fit or the output is not finite; the message names
            the node and the line of the user's model.
    """
    check_structure(program)
    propagate_shapes(program, known)
    values = outputs(program)
    was_finite = all(bool(torch.isfinite(v).all()) for v in program.example.leaves() if _is_float(v))
    if was_finite and not all(bool(torch.isfinite(v).all()) for v in values if _is_float(v)):
        raise PassError(f"The output is not finite. {_first_infinite(program)}")


def signature(program: Program) -> list[str]:
    """Return the type and shape of every output, such as `float32[batch, 10]`, as the graph has them."""
    output = next(node for node in reversed(program.graph.nodes) if node.op == "output")
    values = [leaf.meta.get("val") if isinstance(leaf, fx.Node) else leaf for leaf in pytree.tree_leaves(output.args)]
    return [
        program.spelled(f"{str(v.dtype).removeprefix('torch.')}[{', '.join(map(str, v.shape))}]")
        if isinstance(v, Tensor)
        else str(v)
        for v in values
    ]


def check_structure(program: Program) -> None:
    """Check that the graph is well formed and that its state is exactly what its nodes name.

    Raises:
        PassError: it is not.
    """
    graph = program.graph
    try:
        graph.lint()
    except RuntimeError as error:
        raise PassError(f"The graph is malformed: {first_line(error)}.") from error
    state = {**program.parameters, **program.buffers}
    used = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    if missing := sorted(used - set(state)):
        raise PassError(f"The graph reads {', '.join(missing[:3])}, which the program does not hold.")
    if unused := sorted(set(state) - used):
        raise PassError(f"The program holds {', '.join(unused[:3])}, which no node reads.")
    for node in graph.nodes:
        if node.op in ("call_module", "call_method"):
            raise PassError(f"The node {node.name} is a {node.op}; only ATen operators are allowed.")
    if len(program.placeholders) != len(program.example.leaves()):
        raise PassError("The number of inputs of the graph differs from that of the example.")


def equivalent(before: Program, after: Program, *, seed: int = 0) -> float:
    """Check that two programs compute the same function; return the largest relative difference that was seen.

    Both are run in evaluation mode on the example of `before` and, if the batch size is dynamic, on random inputs of
    another batch size.

    Raises:
        ContractError: they differ by more than the tolerance of their type.
    """
    worst = 0.0
    for leaves in trial_inputs(before, seed):
        expected, found = outputs(before, leaves), outputs(after, leaves)
        if len(expected) != len(found):
            raise ContractError(f"The number of outputs changed from {len(expected)} to {len(found)}.")
        for one, other in zip(expected, found, strict=True):
            gap = difference(one, other)
            worst = max(worst, gap)
            if not gap <= tolerance(one):
                where = _first_difference(before, after, leaves)
                raise ContractError(f"The outputs differ by {gap:.2g} (relative). {where}")
    return worst


def tolerance(value: Any) -> float:
    """Return the relative difference that rounding explains for a tensor of this type."""
    if not _is_float(value):
        return 0.0
    return {torch.float64: 1e-10, torch.float32: 1e-5}.get(value.real.dtype, 2e-2)


def trial_inputs(program: Program, seed: int = 0) -> list[list[Any]]:
    """Return flat inputs to try a program on: the example, and random ones of other sizes where sizes may vary."""
    leaves = program.example.leaves()
    if not any(map(dynamic_sizes, program.placeholders)):
        return [leaves]
    generator = torch.Generator().manual_seed(seed)
    batch = program.batch_symbol
    sizes: dict[Any, int] = {}
    other = []
    for leaf, node in zip(leaves, program.placeholders, strict=True):
        symbols = dynamic_sizes(node)
        if not symbols:
            other.append(leaf)
            continue
        shape = list(leaf.shape)
        for dim, symbol in symbols.items():
            if symbol.is_Symbol:
                size = shape[dim]
                shape[dim] = sizes.setdefault(symbol, size + 1 if symbol == batch or size < 3 else size - 1)
            else:
                shape[dim] = int(symbol.subs(sizes))
        other.append(drawn_like(leaf, shape, generator))
    return [leaves, other]


def outputs(program: Program, leaves: list[Any] | None = None) -> list[Any]:
    """Run a program in evaluation mode on flat inputs (its example if none are given); return its flat outputs."""
    module = program.module(copy=False)
    with torch.no_grad():
        if leaves is None:
            args, kwargs = copied((program.example.args, dict(program.example.kwargs)))
            return pytree.tree_leaves(module(*args, **kwargs))
        result = fx.Interpreter(module).run(*copied(leaves), enable_io_processing=False)
    return pytree.tree_leaves(result)


def copied(values: Any) -> Any:
    """Return inputs in the same structure with every tensor copied: a model may write its inputs in place."""
    return pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, values)


def same_bits(found: list[Any], expected: list[Any]) -> bool:
    """Whether flat outputs are equal; not-a-number equals itself."""
    return len(found) == len(expected) and all(
        _equal(a, b) if isinstance(a, Tensor) or isinstance(b, Tensor) else type(a) is type(b) and repr(a) == repr(b)
        for a, b in zip(found, expected, strict=True)
    )


def _equal(a: Any, b: Any) -> bool:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or a.dtype != b.dtype or a.shape != b.shape:
        return False
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps what every node computed."""

    def __init__(self, program: Program) -> None:
        super().__init__(program.module(copy=False), garbage_collect_values=False)

    def record(self, leaves: list[Any]) -> dict[str, Any]:
        with torch.no_grad():
            self.run(*copied(leaves), enable_io_processing=False)
        return {node.name: value for node, value in self.env.items()}


def _first_difference(before: Program, after: Program, leaves: list[Any]) -> str:
    expected, found = _Recorder(before).record(leaves), _Recorder(after).record(leaves)
    resized = ""
    for node in evaluation_graph(after.graph).nodes:
        one, other = expected.get(node.name), found.get(node.name)
        if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
            continue
        if node.op != "get_attr" and one.shape != other.shape:
            resized = resized or f" Before it, {where_from(node)} was the first to change its shape."
        elif one.shape == other.shape and not difference(one, other) <= tolerance(one):
            return f"The first node that differs is {where_from(node)}.{resized}"
    return f"No node of the same shape differs, so the output is taken from a new node.{resized}"


def _first_infinite(program: Program) -> str:
    values = _Recorder(program).record(program.example.leaves())
    for node in evaluation_graph(program.graph).nodes:
        value: Any = values.get(node.name)
        if _is_float(value) and not bool(torch.isfinite(value).all()) and not _is_mask(value):
            return f"The first node that is not finite is {where_from(node)}."
    return ""


def _is_mask(value: Tensor) -> bool:
    """Attention masks hold minus infinity on purpose."""
    return not value.is_complex() and not bool(torch.isnan(value).any() or torch.isposinf(value).any())


def difference(one: Any, other: Any) -> float:
    """Return the largest relative difference of two values; infinite when shapes or types differ.

    Each element's difference is divided by its own magnitude, or by the typical magnitude of the tensor if that is
    larger. One huge value, such as the logit of a masked class, is not typical and excuses nothing.
    """
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return 0.0 if one == other else float("inf")
    if one.shape != other.shape or one.dtype != other.dtype:
        return float("inf")
    if not _is_float(one):
        return 0.0 if torch.equal(one, other) else float("inf")
    if one.is_complex():
        one, other = torch.view_as_real(one.resolve_conj()), torch.view_as_real(other.resolve_conj())
    a, b = one.detach().double(), other.detach().double()
    gap = torch.where((a == b) | (a.isnan() & b.isnan()), 0.0, (a - b).abs())
    if gap.numel() == 0 or not bool(gap.any()):
        return 0.0
    if not bool(gap.isfinite().all()):
        return float("inf")
    sizes = a.abs().nan_to_num(nan=0.0, posinf=0.0)
    return float((gap / torch.maximum(sizes, _typical(sizes)).clamp_min(1e-12)).max())


def _typical(sizes: Tensor) -> Tensor:
    """Return the root mean square of magnitudes, zeros and masks aside; at most 1000 times their lower quartile."""
    some = sizes[(sizes > 0) & (sizes < _MASK)]
    if some.numel() == 0:
        return sizes.new_zeros(())
    quartile = some.kthvalue(1 + some.numel() // 4).values
    return torch.minimum(some.square().mean().sqrt(), 1000 * quartile)


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())
