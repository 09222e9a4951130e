"""Weights that the graph computes: frozen in part, or made of fewer trained values."""

from __future__ import annotations

from sparsify.axes.op import Dims, Op, axis_rule

_COMPUTED = "the graph computes the weight, which is frozen or embedded; `--pass fold` writes it out"


@axis_rule("sparsify::parameter")
def computed(op: Op) -> Dims:
    """What it is made of (values of a seed, bases that layers share) belongs to the size that it has."""
    dims = op.dims(op.arg(0))
    op.freeze(dims, _COMPUTED)
    return dims


@axis_rule("sparsify::seeded", "sparsify::orthogonal")
def generated(op: Op) -> Dims:
    """With other sizes all values were others."""
    op.freeze(op.dims(op.arg(0)), _COMPUTED)
    return op.fixed(_COMPUTED)
