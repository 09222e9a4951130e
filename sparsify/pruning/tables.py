"""Tables: how much of each layer goes, as a file says it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from sparsify.errors import InputError, PassError, unreadable

__all__ = ["densities_of", "losses_of", "read_table"]


def read_table(path: str) -> Mapping[str, Any]:
    """Read a table of sparsities, or the scan that `sparsify sensitivity` wrote; YAML or JSON.

    Raises:
        InputError: it cannot be read, or is no mapping.
    """
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"The table {path} cannot be read: {unreadable(error)}.") from error
    if not isinstance(found, dict) or not found:
        raise InputError(f"The table {path} is no mapping from names of layers to sparsities.")
    return found


def densities_of(table: Mapping[str, Any], sizes: Mapping[str, int], sparsity: float | None) -> dict[str, float]:
    """Return the density of each layer.

    A table of sparsities holds parameter or module names, or patterns of them; of several that fit the first one
    counts, and layers that none fits are dense. From a scan, whose losses are taken to add up, the layers are pruned
    where a weight costs least until the sparsity of all together is reached.

    Args:
        table: what `read_table` returned.
        sizes: how many units each layer has.
        sparsity: of all layers, for a scan.

    Raises:
        PassError: an entry fits no layer or is no sparsity, or a sparsity is given or lacking where it should not be.
    """
    if "layers" in table and "sparsities" in table:
        if sparsity is None:
            raise PassError("The table is a scan; say with sparsity= how much should go.")
        return _from_scan(table, sizes, sparsity)
    if sparsity is not None:
        raise PassError("The table says how much of each layer goes; leave out sparsity=.")
    densities = dict.fromkeys(sizes, 1.0)
    rest = list(sizes)
    for pattern, value in table.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise PassError(f"In the table, {value!r} of {pattern} is no sparsity between 0 and 1.")
        fitting = [name for name in sizes if _fits(name, str(pattern))]
        if not fitting:
            raise PassError(f"In the table, {pattern} fits no layer that may be pruned. There are: {', '.join(sizes)}.")
        if not (found := [name for name in fitting if name in rest]):
            raise PassError(f"In the table, {pattern} fits only layers that an earlier entry fits: put it first.")
        densities.update(dict.fromkeys(found, 1 - float(value)))
        rest = [name for name in rest if name not in found]
    return densities


def losses_of(table: Mapping[str, Any], name: str, shares: Sequence[float]) -> list[float]:
    """Return what a scan says that pruning these shares of a layer or group costs, between its levels in proportion.

    Beyond the last level the cost goes on rising as it did before it.

    Raises:
        PassError: the table is no scan, or does not know the name.
    """
    if "layers" not in table or "sparsities" not in table:
        raise PassError("The table is no scan of `sparsify sensitivity`.")
    edges = _hull(_points(table, name))
    found = []
    for share in shares:
        start, end = next((edge for edge in edges if share <= edge[1][0]), edges[-1])
        found.append(start[1] + _slope(start, end) * (share - start[0]))
    return found


def _fits(name: str, pattern: str) -> bool:
    """Whether a pattern is that of a parameter or of the module that it belongs to."""
    return fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[0], pattern)


def _from_scan(table: Mapping[str, Any], sizes: Mapping[str, int], sparsity: float) -> dict[str, float]:
    segments: list[tuple[float, int, str, float]] = []
    for name, size in sizes.items():
        for order, (start, end) in enumerate(_hull(_points(table, name))):
            share = end[0] - start[0]
            segments.append(((end[1] - start[1]) / (share * size), order, name, share))
    left = sparsity * sum(sizes.values())
    gone = dict.fromkeys(sizes, 0.0)
    for _, _, name, share in sorted(segments, key=lambda item: item[:2]):
        part = min(share, left / sizes[name])
        gone[name] += part
        left -= part * sizes[name]
    if left > 0.5:
        most = 1 - left / sum(sizes.values()) - (1 - sparsity)
        raise PassError(f"The scan goes to {most:.3f} of all weights; sparsity={sparsity} is more. Scan further.")
    return {name: 1 - value for name, value in gone.items()}


def _points(table: Mapping[str, Any], name: str) -> list[tuple[float, float]]:
    """Return the losses of a layer at its sparsities, in order; sparsities at which it has no finite loss are out."""
    if not isinstance(table["layers"], Mapping) or not isinstance(table["sparsities"], (list, tuple)):
        raise PassError("The table is a damaged scan: its layers or sparsities are no lists. Scan again.")
    losses = table["layers"].get(name)
    if losses is None:
        unit = f" It is a scan of {table['unit']}." if "unit" in table else ""
        raise PassError(f"The scan does not know {name}.{unit} Scan this model, or protect that layer.")
    try:
        found = {float(level): float(loss) for level, loss in zip(table["sparsities"], losses, strict=True)}
    except (TypeError, ValueError) as error:
        raise PassError(f"The scan of {name} does not have one loss for each sparsity. Scan again.") from error
    finite = {level: max(0.0, loss) for level, loss in found.items() if math.isfinite(loss)}
    return sorted({**finite, 0.0: 0.0}.items())


def _hull(points: Sequence[tuple[float, float]]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return the edges of the lower convex hull of points in order: their slopes rise."""
    hull: list[tuple[float, float]] = []
    for point in points:
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return list(itertools.pairwise(hull))


def _slope(one: tuple[float, float], other: tuple[float, float]) -> float:
    return (other[1] - one[1]) / (other[0] - one[0])
