"""The type of a dimension: an axis, which is a leaf, a product of axes or a sum of axes.

Axes are made fresh, unified when an operator says that two dimensions are the same, and refined when a `view` splits
a dimension into factors or a `cat` joins it from segments. A refinement is seen by everyone who uses the axis. What
cannot be aligned is frozen: it keeps its size for a stated reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Literal

__all__ = [
    "DYNAMIC",
    "ONE",
    "SPACE",
    "UNALIGNED",
    "Axis",
    "cut",
    "factors",
    "find",
    "freeze",
    "freeze_all",
    "leaves",
    "product",
    "segments",
    "split_off",
    "total",
    "unify",
]

UNALIGNED = "it is cut into parts in two ways that do not fit together"
DYNAMIC = "its size is dynamic"
SPACE = "it is a position in space"

Kind = Literal["leaf", "product", "sum"]


class Axis:
    """A dimension of a value.

    Attributes:
        size: the number of indices; where that is dynamic, the number that the example has.
        dynamic: whether other inputs may have another size.
        kind: a leaf, or composed of `parts`; the last part of a product is the one that moves fastest.
        frozen: why the size of a leaf must stay; empty if it may change.
    """

    __slots__ = ("dynamic", "frozen", "kind", "parent", "parts", "size")

    def __init__(self, size: int, frozen: str = "", *, dynamic: bool = False) -> None:
        self.size = size
        self.dynamic = dynamic
        self.kind: Kind = "leaf"
        self.parts: tuple[Axis, ...] = ()
        self.frozen = frozen
        self.parent: Axis | None = None

    def __repr__(self) -> str:
        axis = find(self)
        if axis.kind == "leaf":
            return f"{axis.size}{'~' if axis.dynamic else '!' if axis.frozen else ''}"
        return f"({('*' if axis.kind == 'product' else '+').join(map(repr, axis.parts))})"


ONE = Axis(1, "it has one index")
"""Every dimension of static size one: it broadcasts, and there is nothing to remove."""


def find(axis: Axis) -> Axis:
    """Return the axis that stands for all axes that were unified with `axis`."""
    root = axis
    while root.parent is not None:
        root = root.parent
    while axis.parent is not None and axis.parent is not root:
        axis.parent, axis = root, axis.parent
    return root


def product(parts: Sequence[Axis]) -> Axis:
    """Return the axis whose index runs over all combinations of the parts' indices, the last one fastest."""
    return _composed("product", [part for part in parts if part.size != 1 or part.dynamic]) or ONE


def total(parts: Sequence[Axis]) -> Axis:
    """Return the axis that is the parts one behind the other; a static part goes with a dynamic one or not at all."""
    if any(part.dynamic for part in parts):
        freeze_all(parts, "its size is added to a dynamic one")
    return _composed("sum", [part for part in parts if part.size or part.dynamic]) or Axis(0, "it is empty")


def _composed(kind: Kind, parts: Sequence[Axis]) -> Axis | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    sizes = [part.size for part in parts]
    axis = Axis(math.prod(sizes) if kind == "product" else sum(sizes), dynamic=any(part.dynamic for part in parts))
    axis.kind, axis.parts = kind, tuple(parts)
    return axis


def factors(axis: Axis) -> list[Axis]:
    """Return the factors of an axis, slowest first; an axis that is no product is its only factor."""
    axis = find(axis)
    if axis.kind == "product":
        return [factor for part in axis.parts for factor in factors(part)]
    return [axis] if axis.size != 1 or axis.dynamic else []


def segments(axis: Axis) -> list[Axis]:
    """Return the segments of an axis in order; an axis that is no sum is its only segment."""
    axis = find(axis)
    if axis.kind != "sum":
        return [axis]
    return [segment for part in axis.parts for segment in segments(part)]


def leaves(axis: Axis) -> list[Axis]:
    """Return the leaves of an axis in order; one that occurs twice is given twice."""
    axis = find(axis)
    if axis.kind == "leaf":
        return [axis]
    found = []
    rest = [*reversed(axis.parts)]
    while rest:  # a loop, because nearly all questions about a graph end here
        part = rest.pop()
        while part.parent is not None:
            part = part.parent
        if part.kind == "leaf":
            found.append(part)
        else:
            rest.extend(reversed(part.parts))
    return found


def freeze(axis: Axis, reason: str) -> None:
    """Freeze all leaves of an axis; a leaf keeps the reason that it was frozen for first."""
    axis = find(axis)
    if axis.kind == "leaf":
        axis.frozen = axis.frozen or reason
    else:
        freeze_all(axis.parts, reason)


def freeze_all(axes: Iterable[Axis], reason: str) -> None:
    """Freeze several axes."""
    for axis in axes:
        freeze(axis, reason)


def unify(a: Axis, b: Axis) -> None:
    """Say that two dimensions are the same: what is removed from one is removed from the other."""
    a, b = find(a), find(b)
    if a is b:
        return
    if a.size != b.size or a.dynamic != b.dynamic:
        freeze_all((a, b), UNALIGNED)
    elif a.kind == "leaf" and a is not ONE:
        _link(a, b)
    elif b.kind == "leaf":
        _link(b, a)
    elif a.kind != b.kind:
        one, other = (a, b) if a.kind == "product" else (b, a)
        if _distribute(one, other):
            _link(other, one)
    else:
        if a.kind == "product":
            _align_products(factors(a), factors(b))
        else:
            _align_sums(segments(a), segments(b))
        _link(a, b)


def _link(axis: Axis, to: Axis) -> None:
    if axis.kind == "leaf" and axis.frozen:
        freeze(to, axis.frozen)
    axis, to = find(axis), find(to)
    if axis is not to:
        axis.parent = to


def split_off(axis: Axis, size: int) -> list[Axis] | None:
    """Refine a static axis so that its last factors, together, have the given size.

    Returns:
        All its factors, or None if that cannot be.
    """
    axis = find(axis)
    if axis.dynamic or size == 0 or axis.size % size:
        return None
    if axis.kind == "leaf":
        parts = (Axis(axis.size // size, axis.frozen), Axis(size, axis.frozen))
        axis.kind, axis.parts = "product", parts
    else:
        unify(axis, product([Axis(axis.size // size), Axis(size)]))
    found = factors(axis)
    return found if size in accumulate((f.size for f in reversed(found)), lambda x, y: x * y) else None


def cut(axis: Axis, sizes: Sequence[int]) -> list[Axis]:
    """Cut a static axis into consecutive parts of the given sizes and return an axis for each.

    Where the cuts do not fit to what the axis is made of, the axis is frozen, and so are the parts.
    """
    axis = find(axis)
    if [size for size in sizes if size] == [axis.size]:
        return [axis if size else Axis(0, "it is empty") for size in sizes]
    parts = [Axis(size) for size in sizes]
    unify(axis, total(parts))
    return parts


def _align_products(ours: list[Axis], theirs: list[Axis]) -> None:
    while ours and theirs:
        x, y = find(ours.pop()), find(theirs.pop())
        if x.kind == "product" or y.kind == "product":  # refined by what was aligned before
            ours.extend(factors(x))
            theirs.extend(factors(y))
        elif x.size == y.size and x.dynamic == y.dynamic:
            unify(x, y)
        elif x.size > y.size and (parts := split_off(x, y.size)) is not None:
            ours.extend(parts)
            theirs.append(y)
        elif y.size > x.size and (parts := split_off(y, x.size)) is not None:
            theirs.extend(parts)
            ours.append(x)
        else:
            freeze_all((x, y), UNALIGNED)
            break
    freeze_all((*ours, *theirs), UNALIGNED)


def _align_sums(ours: list[Axis], theirs: list[Axis]) -> None:
    ours.reverse()
    theirs.reverse()
    while ours and theirs:
        x, y = find(ours.pop()), find(theirs.pop())
        if x.kind == "sum" or y.kind == "sum":
            ours.extend(reversed(segments(x)))
            theirs.extend(reversed(segments(y)))
        elif x.size == y.size and x.dynamic == y.dynamic:
            unify(x, y)
        elif x.dynamic or y.dynamic:
            freeze_all((x, y), UNALIGNED)
            break
        elif x.size > y.size:
            ours.extend(reversed(cut(x, [y.size, x.size - y.size])))
            theirs.append(y)
        else:
            theirs.extend(reversed(cut(y, [x.size, y.size - x.size])))
            ours.append(x)
    freeze_all((*ours, *theirs), UNALIGNED)


def _distribute(one: Axis, other: Axis) -> bool:
    """Unify a product with a sum, (a + b) c = a c + b c; return whether they are the same now."""
    pieces = segments(other)
    cuts = list(accumulate(piece.size for piece in pieces))[:-1]
    inner = [] if one.dynamic or other.dynamic else _inner(factors(one), cuts)
    if not inner:
        freeze_all((one, other), UNALIGNED)
        return False
    outer = factors(one)[: -len(inner)]
    unit = math.prod(axis.size for axis in inner)
    counts = [ONE if piece.size == unit else Axis(piece.size // unit) for piece in pieces]
    if len(outer) == 1:
        unify(outer[0], total(counts))
    else:
        freeze_all((*outer, *counts), UNALIGNED)
    for count, piece in zip(counts, pieces, strict=True):
        unify(piece, product([count, *inner]))
    return True


def _inner(parts: list[Axis], cuts: list[int]) -> list[Axis]:
    """Return the longest proper tail of a product whose size divides all cuts, splitting a factor if need be."""
    length, size = 0, 1
    while length < len(parts) - 1 and not any(at % (size * parts[-length - 1].size) for at in cuts):
        length += 1
        size *= parts[-length].size
    rest, best = parts[: len(parts) - length], parts[len(parts) - length :]
    step = math.gcd(rest[-1].size, *(at // size for at in cuts))
    if len(rest) > 1 and step > 1 and (split := split_off(rest[-1], step)) is not None:
        return [*split[1:], *best]
    return best
