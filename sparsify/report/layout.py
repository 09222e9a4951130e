"""Where the items of a drawing go: a layered layout, from the top down.

Every item gets a row below all that it reads, and as far down as what reads it allows. A value that is read further
down than the next row runs through the rows between as one trunk, however many read it there. Items are ordered within
their rows so that few lines cross, then moved sideways so that lines are straight.

Reference: Sugiyama, Tagawa, Toda, "Methods for Visual Understanding of Hierarchical System Structures", 1981.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import networkx as nx

__all__ = ["Layout", "layout"]

Spot = tuple[str, int]  # an item or the trunk of its value, and the row
Line = tuple[float, float, float, float, float, float]

_SWEEPS = 8
_BESIDE = 18.0  # between items of a row
_BELOW = 26.0  # between rows
_TRUNK = 0.00001  # how much a trunk resists being moved aside


@dataclass(frozen=True)
class Layout:
    """A drawing in numbers.

    Attributes:
        width: of the whole.
        height: of the whole.
        centres: of the items.
        lines: for each item the ways from it to those that read it, from one row to the next: down from (x, start) to
            the row's bottom, to (x of the end, top of the next row), down to the end.
    """

    width: float
    height: float
    centres: Mapping[str, tuple[float, float]]
    lines: Mapping[str, Sequence[Line]]


def layout(graph: nx.DiGraph, sizes: Mapping[str, tuple[float, float]]) -> Layout:
    """Lay out an acyclic graph.

    Args:
        graph: between items.
        sizes: width and height of each item.
    """
    rows, weights = _rows(graph)
    links = _links(graph, rows)
    order = _ordered(rows, links)
    widths = {spot: sizes[spot[0]][0] if rows[spot[0]] == spot[1] else 0.0 for row in order for spot in row}
    firm = {spot: weights[spot[0]] if rows[spot[0]] == spot[1] else _TRUNK for spot in widths}
    x = _placed(order, links, widths, firm)
    tall = [max(sizes[name][1] for name, at in row if rows[name] == at) for row in order]
    tops = [0.0, *accumulate(height + _BELOW for height in tall)]
    centres = {name: (x[name, row], tops[row] + tall[row] / 2) for name, row in rows.items()}
    lines: dict[str, list[Line]] = {name: [] for name in rows}
    for upper, lower in links:
        start, end = tops[upper[1]], tops[lower[1]]
        bottom, top = start + tall[upper[1]], end
        if rows[upper[0]] == upper[1]:
            start = centres[upper[0]][1] + sizes[upper[0]][1] / 2
        if rows[lower[0]] == lower[1]:
            end = centres[lower[0]][1] - sizes[lower[0]][1] / 2
        lines[upper[0]].append((x[upper], start, bottom, x[lower], top, end))
    width = max((x[spot] + widths[spot] / 2 for spot in x), default=0.0)
    return Layout(width, max(0.0, tops[-1] - _BELOW), centres, lines)


def _rows(graph: nx.DiGraph) -> tuple[dict[str, int], dict[str, float]]:
    """Put every item below what it reads, right above the first that reads it.

    Returns:
        The rows, and how much items resist being moved aside: those of a longest path most.
    """
    early = {name: row for row, names in enumerate(nx.topological_generations(graph)) for name in names}
    rows: dict[str, int] = {}
    for name in reversed(list(nx.topological_sort(graph))):
        rows[name] = min((rows[reader] for reader in graph.succ[name]), default=early[name] + 1) - 1
    in_order = {name: rows[name] for name in graph}
    return in_order, {name: 1.0 if rows[name] == early[name] else 0.001 for name in graph}


def _links(graph: nx.DiGraph, rows: Mapping[str, int]) -> list[tuple[Spot, Spot]]:
    """Cut the edges at the rows that they pass; those of one item share a trunk."""
    found: dict[tuple[Spot, Spot], None] = {}
    for name in rows:
        for reader in sorted(graph.succ[name], key=rows.__getitem__):
            for row in range(rows[name], rows[reader] - 1):
                found[(name, row), (name, row + 1)] = None
            found[(name, rows[reader] - 1), (reader, rows[reader])] = None
    return list(found)


def _neighbours(links: Iterable[tuple[Spot, Spot]], up: bool) -> dict[Spot, list[Spot]]:
    found: dict[Spot, list[Spot]] = {}
    for upper, lower in links:
        one, other = (lower, upper) if up else (upper, lower)
        found.setdefault(one, []).append(other)
    return found


def _ordered(rows: Mapping[str, int], links: Sequence[tuple[Spot, Spot]]) -> list[list[Spot]]:
    """Order the rows by the mean place of what each spot is linked to, up and down in turns; keep the best result."""
    order: list[list[Spot]] = [[] for _ in range(max(rows.values(), default=-1) + 1)]
    for spot in dict.fromkeys([*((name, row) for name, row in rows.items()), *(s for link in links for s in link)]):
        order[spot[1]].append(spot)
    above, below = _neighbours(links, True), _neighbours(links, False)
    best, fewest = [list(row) for row in order], _crossings(order, below)
    for sweep in range(_SWEEPS):
        near = above if sweep % 2 == 0 else below
        places: dict[Spot, float] = {}
        for row in order if sweep % 2 == 0 else reversed(order):
            middle = {s: _mean([places[n] for n in near.get(s, ())], i) for i, s in enumerate(row)}
            row.sort(key=middle.__getitem__)
            places.update({spot: index - len(row) / 2 for index, spot in enumerate(row)})
        crossings = _crossings(order, below)
        if crossings < fewest:
            best, fewest = [list(row) for row in order], crossings
    return best


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _crossings(order: Sequence[Sequence[Spot]], below: Mapping[Spot, Sequence[Spot]]) -> int:
    """Count the pairs of links that cross."""
    total = 0
    for row, following in pairwise(order):
        place = {spot: index for index, spot in enumerate(following)}
        ends = [end for spot in row for end in sorted(place[other] for other in below.get(spot, ()))]
        total += sum(one > other for index, one in enumerate(ends) for other in ends[index + 1 :])
    return total


def _placed(
    order: Sequence[Sequence[Spot]],
    links: Sequence[tuple[Spot, Spot]],
    widths: Mapping[Spot, float],
    weights: Mapping[Spot, float],
) -> dict[Spot, float]:
    """Move the spots of every row, in their order and without overlap, to where their links are straight."""
    above, below = _neighbours(links, True), _neighbours(links, False)
    x = {spot: 0.0 for row in order for spot in row}
    for sweep in range(2 * _SWEEPS + 1):
        down = sweep % 2 == 0
        for row in order if down else reversed(order):
            near = above if down else below
            wanted = [_wanted(spot, near.get(spot, ()), x, weights) for spot in row]
            half = [widths[spot] / 2 for spot in row]
            x.update(zip(row, _spread(wanted, half, [weights[spot] for spot in row]), strict=True))
    left = min((x[spot] - widths[spot] / 2 for spot in x), default=0.0)
    return {spot: value - left for spot, value in x.items()}


def _wanted(spot: Spot, near: Sequence[Spot], x: Mapping[Spot, float], weights: Mapping[Spot, float]) -> float:
    """Return where a spot would like to be: a trunk at its trunk, an item at the heaviest that it is linked to."""
    trunk = [other for other in near if weights[spot] == weights[other] == _TRUNK]
    total = sum(weights[other] for other in trunk or near)
    return sum(x[other] * weights[other] for other in trunk or near) / total if near else x[spot]


def _spread(wanted: Sequence[float], half: Sequence[float], firm: Sequence[float]) -> list[float]:
    """Return the places nearest to those wanted (weighted least squares) in order and without overlap.

    Reference: the pool-adjacent-violators algorithm, Ayer et al., 1955.
    """
    offsets = [0.0]
    for left, right in pairwise(half):
        offsets.append(offsets[-1] + left + right + _BESIDE)
    pools: list[tuple[float, float, int]] = []  # mean, weight and number
    for value, offset, own in zip(wanted, offsets, firm, strict=True):
        mean, weight, number = value - offset, own, 1
        while pools and pools[-1][0] > mean:
            before, more, count = pools.pop()
            mean = (before * more + mean * weight) / (more + weight)
            weight, number = more + weight, count + number
        pools.append((mean, weight, number))
    flat = [mean for mean, _, number in pools for _ in range(number)]
    return [value + offset for value, offset in zip(flat, offsets, strict=True)]
