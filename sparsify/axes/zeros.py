"""Where values are zero: for which indices of which axes masking is the same as removing.

An index of an axis may be removed without changing the function if everything that sums over the axis gets a zero
from it, nothing counts its indices, and nothing divides by its zeros. The same flow answers two questions: whether
an axis is zero-preserving at all (suppose that an index were masked in all parameters), and which indices the masks
in the graph have made removable.
"""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from torch import fx

from sparsify.axes.axis import Axis, find, leaves
from sparsify.axes.inference import Axes, leaves_of
from sparsify.axes.op import Facts, key_of

__all__ = ["Flow", "Zero", "free_leaves", "repeated", "supposed"]

Zero = Any  # True for every index, or a boolean tensor with an entry for each
Zeros = Mapping[Axis, Zero]
_NOTHING: Zeros = {}


def free_leaves(dims: list[Axis]) -> set[Axis]:
    """Return the leaves of dimensions that are not frozen."""
    return {leaf for axis in dims for leaf in leaves(axis) if not leaf.frozen}


class Flow:
    """Follows zeros through a graph.

    Args:
        axes: of the program.
        source: gives for a node the leaves along which its value is zero, and where; None to derive it from the
            node's arguments.
        absorbed: where a node that sums over a leaf can do without an index although its value is not zero.

    Attributes:
        zeros: for each node the leaves along which its value is zero, and where.
        removable: for each leaf that is reduced, where all reductions get a zero; a leaf that is not there is not
            reduced at all.
        reasons: why a leaf is not zero-preserving.
        broken: the nodes that tell masking from removing, each with the leaves that it does so for.
    """

    def __init__(
        self,
        axes: Axes,
        source: Callable[[fx.Node], Zeros | None],
        absorbed: Callable[[fx.Node, Axis], Zero] | None = None,
    ) -> None:
        self.zeros: dict[fx.Node, Zeros] = {}
        self.removable: dict[Axis, Zero] = {}
        self.reasons: dict[Axis, str] = {}
        self.broken: dict[fx.Node, set[Axis]] = {}
        self._axes = axes
        self._types: dict[tuple[Axis, ...], _Type] = {}
        self._absorbed = absorbed or (lambda node, leaf: False)
        for node, dims in axes.dims.items():
            given = source(node)
            facts = axes.facts.get(node)
            self.zeros[node] = given if given is not None else self._result(facts, dims) if facts else _NOTHING
            if facts is not None:
                self._reduce(node, facts)

    def _type(self, dims: Any) -> _Type:
        """Return what is asked of the dimensions of a value; many values have the same ones."""
        if isinstance(dims, tuple):
            return _Type(dims)
        roots = tuple(map(find, dims))
        if roots not in self._types:
            self._types[roots] = _Type(dims)
        return self._types[roots]

    def _result(self, facts: Facts, dims: Any) -> Zeros:
        if not (facts.zero or facts.parts or facts.factors or facts.addends):
            return _NOTHING
        own = self._type(dims)
        if facts.zero:
            return dict.fromkeys(own.free, True)
        found: Zeros | None = None
        if facts.parts:
            found = self._of_parts(facts)
        else:
            if facts.factors:
                found = self._of_factors(facts, own.often)
            for value in facts.addends:
                zeros = self._covering(value, own.often)
                found = zeros if found is None else _both(found, zeros)
        if not found:
            return _NOTHING
        return found if found.keys() <= own.all else {leaf: zero for leaf, zero in found.items() if leaf in own.all}

    def _covering(self, value: fx.Node, often: Mapping[Axis, int]) -> Zeros:
        """Return the zeros of a value along the leaves that it has as often as a result has them."""
        zeros = self.zeros[value]
        if not often or not zeros:
            return zeros
        times = _times(self._axes.dims[value])
        return {leaf: zero for leaf, zero in zeros.items() if times[leaf] >= often.get(leaf, 1)}

    def _of_factors(self, facts: Facts, often: Mapping[Axis, int]) -> Zeros:
        if len(facts.factors) == 1 and not facts.sums:
            return self._covering(facts.factors[0], often)
        found: dict[Axis, Zero] = {}
        zeros = {value: self._outside(value, facts) for value in facts.factors}
        for outside in zeros.values():
            both = {leaf: zero | found[leaf] for leaf, zero in outside.items() if leaf in found} if found else {}
            found = {**found, **outside, **both}
        for leaf in often.keys() & found.keys():  # every place that the result has it at must come from a zero
            times = {value: self._times_outside(value, facts)[leaf] for value in facts.factors}
            enough = [zeros[value].get(leaf, False) for value in times if times[value] >= often[leaf]]
            every = [zeros[value].get(leaf, False) for value in times if times[value]]
            together = functools.reduce(operator.and_, every, sum(times.values()) >= often[leaf])
            found[leaf] = functools.reduce(operator.or_, enough, together)
        return {leaf: zero for leaf, zero in found.items() if zero is not False}

    def _outside(self, value: fx.Node, facts: Facts) -> Zeros:
        """Return the zeros of a factor along the dimensions that are not summed over."""
        zeros = self.zeros[value]
        if not zeros or not facts.sums:
            return zeros
        dims = self._axes.dims[value]
        if self._type(dims).often:
            own = self._times_outside(value, facts)
            return {leaf: zero for leaf, zero in zeros.items() if own[leaf] > 0}
        gone = set().union(*(self._type([axis]).all for axis, nodes in facts.sums if value in nodes))
        return {leaf: zero for leaf, zero in zeros.items() if leaf not in gone}

    def _times_outside(self, value: fx.Node, facts: Facts) -> Counter[Axis]:
        own = _times(self._axes.dims[value])
        for axis, nodes in facts.sums:
            if value in nodes:
                own.subtract(_times([axis]))
        return own

    def _of_parts(self, facts: Facts) -> Zeros:
        found: dict[Axis, Zero] = {}
        missing: set[Axis] = set()
        for value in facts.parts:
            zeros = self.zeros[value]
            for leaf in self._type(self._axes.dims[value]).free:
                if leaf not in zeros:
                    missing.add(leaf)
                else:
                    found[leaf] = zeros[leaf] & found[leaf] if leaf in found else zeros[leaf]
        return {leaf: zero for leaf, zero in found.items() if leaf not in missing}

    def _reduce(self, node: fx.Node, facts: Facts) -> None:
        for axis, nodes in facts.sums:
            for leaf in self._type([axis]).free:
                zero: Zero = self._absorbed(node, leaf)
                for value in nodes:
                    zero = zero | self.zeros[value].get(leaf, False)
                self._require(leaf, zero, node, "sums over it values that a mask does not make zero")
        for axis in facts.counts:
            for leaf in self._type([axis]).free:
                self._require(leaf, False, node, "depends on how many indices it has")
        for value, axes in facts.poles:
            along = None if axes is None else free_leaves(axes)
            for leaf, zero in self.zeros[value].items():
                if along is None or leaf in along:
                    self._require(leaf, ~zero if zero is not True else False, node, "is not finite at zero")

    def _require(self, leaf: Axis, zero: Zero, node: fx.Node, reason: str) -> None:
        before = self.removable.get(leaf, True)
        self.removable[leaf] = zero & before
        if zero is False:
            self.reasons.setdefault(leaf, f"{key_of(node)} {reason}")
            self.broken.setdefault(node, set()).add(leaf)


class _Type:
    """All leaves of the dimensions of a value, those that are not frozen, and those that it has more than once."""

    __slots__ = ("all", "free", "often")

    def __init__(self, dims: Any) -> None:
        every = leaves_of(dims)
        free = [leaf for leaf in every if not leaf.frozen]
        self.all, self.free = set(every), set(free)
        self.often = {} if len(free) == len(self.free) else repeated(dims)


def repeated(dims: Any) -> Mapping[Axis, int]:
    """Return the free leaves that several dimensions of a value have, or several factors of one, and how many."""
    return {leaf: times for leaf, times in _times(dims).items() if times > 1 and not leaf.frozen}


def _times(dims: Any) -> Counter[Axis]:
    """Count in how many dimensions and factors each leaf is; the segments of a sum are never at the same place."""
    every = leaves_of(dims)
    found = Counter(every)
    if len(found) == len(every):  # nearly always, and joining the counts of long sums would take quadratic time
        return found
    if isinstance(dims, tuple):
        return functools.reduce(operator.or_, map(_times, dims), Counter())
    found = Counter()
    for axis in map(find, dims):
        if axis.kind == "leaf":
            found[axis] += 1
        elif axis.kind == "product":
            found.update(_times(list(axis.parts)))
        else:
            found.update(_times(tuple([part] for part in axis.parts)))
    return found


def _both(one: Zeros, other: Zeros) -> Zeros:
    if one is other:
        return one
    return {leaf: zero & other[leaf] for leaf, zero in one.items() if leaf in other}


def supposed(axes: Axes) -> Flow:
    """Follow the zeros if an index of every leaf were masked in all parameters that have it."""
    parameters = axes.program.parameters

    def source(node: fx.Node) -> Zeros | None:
        if node.op != "get_attr":
            return None
        return dict.fromkeys(free_leaves(axes.dims[node]), True) if node.target in parameters else _NOTHING

    return Flow(axes, source)
