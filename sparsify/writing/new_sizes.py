"""New sizes: what size every axis of a program has in a smaller version of it.

The axes of the program are refined trees, and of the smaller one only the shapes of its values are known. Every
dimension is an equation: the sizes of the leaves below it multiply and add up to its new size.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparsify.axes import Axes, Axis
from sparsify.axes.axis import factors, find, leaves, segments
from sparsify.axes.op import Role
from sparsify.groups import groups_of
from sparsify.program import Program
from sparsify.shapes import KnownShapes, propagate_shapes

__all__ = ["NewSizes", "Size"]

_MANY = 8  # segments of a sum of which all runs are looked at
_ROLES: tuple[tuple[Role, str], ...] = (
    ("experts", "experts"),
    ("heads", "heads"),
    ("conv-groups", "conv-groups"),
    ("head-dim", "head-dim"),
    ("added", "stream"),
)


@dataclass(frozen=True)
class Size:
    """A size that occurs in a dimension of a parameter, such as 12 in one of 3 · 4 · 12.

    Attributes:
        old: what it is.
        new: what it is in the smaller program.
        kinds: what of groups the indices are.
        place: the dimension, and which of the sizes in it this one is.
    """

    old: int
    new: int
    kinds: frozenset[str]
    place: tuple[int, int]


class NewSizes:
    """Knows the new size of axes.

    Args:
        before: the axes of the larger program.
        after: the smaller program, whose tensors have as many dimensions.

    Attributes:
        names: the parameters and buffers, tied ones by all their names.
    """

    def __init__(self, before: Axes, after: Program) -> None:
        self._before = before
        self._dims: dict[str, list[Axis]] = {
            str(node.target): dims for node, dims in before.dims.items() if node.op == "get_attr"
        }
        self._aliases = before.program.aliases
        self.names = (*self._dims, *self._aliases)
        self._found: dict[Axis, int] = {}
        self._inside: dict[str, list[Size]] = {}
        self._kinds = _kinds(before)
        self._solve(list(self._equations(after)))

    def of(self, axis: Axis) -> int | None:
        """Return the new size of an axis, or None if it cannot be told."""
        axis = find(axis)
        if axis.kind == "leaf":
            return axis.size if axis.frozen else self._found.get(axis)
        return _together(axis.kind, [self.of(part) for part in axis.parts])

    def inside(self, name: str) -> list[Size]:
        """Return the sizes that occur in the dimensions of a parameter or buffer, whole dimensions first."""
        name = self._aliases.get(name, name)
        if name not in self._inside:
            self._inside[name] = [
                replace(size, place=(dim, number))
                for dim, axis in enumerate(self._dims.get(name, []))
                for number, size in enumerate(dict.fromkeys(self._sizes(axis)))
            ]
        return self._inside[name]

    def outer(self, name: str, dim: int, old: int) -> int:
        """Return the new size of the slowest factors of a dimension that had a size together: groups, heads."""
        product, name = 1, self._aliases.get(name, name)
        parts = factors(self._dims[name][dim]) if name in self._dims else []
        for index, factor in enumerate(parts, 1):
            product *= factor.size
            if product == old:
                found = _together("product", [self.of(part) for part in parts[:index]])
                return old if found is None else found
        return old

    def _sizes(self, axis: Axis) -> Iterator[Size]:
        for kind, parts in _runs(axis):
            new = _together(kind, [self.of(part) for part in parts])
            kinds = {self._kinds.get(leaf, "channels") for part in parts for leaf in leaves(part) if leaf.size > 1}
            if new is not None and not any(part.dynamic for part in parts):
                old = _together(kind, [part.size for part in parts])
                yield Size(old or 0, new, frozenset(kinds), (0, 0))

    def _equations(self, after: Program) -> Iterator[tuple[Axis, int]]:
        """Yield axes and their new sizes: of the parameters, and of those values that have kept their names."""
        state: Mapping[str, Tensor] = {**after.parameters, **after.buffers}
        for name, dims in self._dims.items():
            if name in state:
                yield from zip(dims, state[name].shape, strict=True)
        known, after = KnownShapes(after), replace(after, graph=after.copy_graph())
        propagate_shapes(after, known)
        smaller = {node.name: node for node in after.graph.nodes if node.op == "call_function"}
        for node, facts in self._before.facts.items():
            if node.name not in smaller or smaller[node.name].target is not node.target:
                continue
            dims, value = self._before.dims[node], smaller[node.name].meta.get("val")
            if isinstance(dims, list) and isinstance(value, Tensor) and value.ndim == len(dims):
                yield from zip(dims, value.shape, strict=True)
            for place, axis in facts.sizes:
                if isinstance(axis, Axis):  # of groups, which no shape shows
                    args = smaller[node.name].args if isinstance(place, int) else smaller[node.name].kwargs
                    yield axis, args[place]

    def _solve(self, equations: list[tuple[Axis, int | torch.SymInt]]) -> None:
        todo = [(axis, int(size)) for axis, size in equations if type(size) is int and not axis.dynamic]
        before = -1
        while before != len(self._found):
            before = len(self._found)
            for axis, size in todo:
                if self.of(axis) is None:
                    self._set(axis, size)

    def _set(self, axis: Axis, size: int) -> None:
        axis = find(axis)
        if axis.kind == "leaf":
            if 0 < size <= axis.size:
                self._found[axis] = size
            return
        known = [self.of(part) for part in axis.parts]
        missing = {find(part) for part, value in zip(axis.parts, known, strict=True) if value is None}
        if len(missing) != 1:
            return
        times = known.count(None)
        if axis.kind == "product":
            rest = math.prod(value for value in known if value is not None)
            if times == 1 and rest and size % rest == 0:
                self._set(missing.pop(), size // rest)
        elif (rest := size - sum(value for value in known if value is not None)) % times == 0:
            self._set(missing.pop(), rest // times)


def _together(kind: str, sizes: Sequence[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return None
    return sum(known) if kind == "sum" else math.prod(known)


def _runs(axis: Axis) -> Iterator[tuple[str, Sequence[Axis]]]:
    """Yield the parts that an axis is made of, and all neighbours among them; the axis itself comes first."""
    axis = find(axis)
    parts = factors(axis) if axis.kind == "product" else segments(axis)
    yield axis.kind, parts
    if axis.kind == "leaf":
        return
    longest = len(parts) - 1 if axis.kind == "product" or len(parts) <= _MANY else 1
    for length in range(longest, 1, -1):
        for start in range(len(parts) - length + 1):
            yield axis.kind, parts[start : start + length]
    for part in dict.fromkeys(map(find, parts)):
        yield from _runs(part)


def _kinds(before: Axes) -> dict[Axis, str]:
    """Return what an index of a leaf is; for leaves that cannot change, as far as the operators say it."""
    kinds: dict[Axis, str] = {group.axis: group.kind for group in groups_of(before) if not group.frozen}
    roles: dict[Axis, Counter[Role]] = defaultdict(Counter)
    for facts in before.facts.values():
        for axis, role in facts.roles:
            for leaf in leaves(axis):
                if leaf.frozen:
                    roles[leaf][role] += 1
    for leaf, has in roles.items():
        kinds[leaf] = next((kind for role, kind in _ROLES if has[role]), "channels")
    return kinds
