"""Heat: a scan of sensitivities as a table whose cells are coloured by what pruning costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sparsify.report.quantities import count

if TYPE_CHECKING:
    from sparsify.sensitivity import Scan

__all__ = ["cell", "explanation", "heat", "labels", "print_heat"]

_STEPS = ("grey93", "light_goldenrod1", "gold1", "dark_orange", "orange_red1", "red3")


def heat(layers: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Return how hot each cell is, between 0 and 1, on a logarithmic scale over three decades below the highest."""
    top = max((value for values in layers.values() for value in values if math.isfinite(value)), default=0.0)
    return {name: [_heat(value, top) for value in values] for name, values in layers.items()}


def _heat(value: float, top: float) -> float:
    if not math.isfinite(value):
        return 1.0
    if value <= 0 or top <= 0:
        return 0.0
    return min(1.0, max(0.0, 1 + math.log10(value / top) / 3))


def cell(value: float) -> str:
    """Write a value in at most five characters or so."""
    if abs(value) < 5e-4:
        return "0"
    if abs(value) < 0.0995:
        return f"{value:.3f}".replace("0.", ".")
    return f"{value:.2f}" if abs(value) < 9.995 else f"{value:.3g}"


def labels(found: Scan) -> dict[str, str]:
    """Return what rows are called: their names, without `.weight` where all end with it."""
    end = ".weight" if all(name.endswith(".weight") for name in found.layers) else ""
    return {name: name.removesuffix(end) for name in found.layers}


def explanation(found: Scan) -> str:
    """Say what the numbers are."""
    what = "weights of each layer" if found.unit == "weights" else "channels of each group"
    return (
        f"{found.quantity} when so much of the {what} goes, each alone, the lowest by {found.criterion} first; "
        f"nothing is retrained"
    )


def print_heat(console: Console, found: Scan) -> None:
    """Print a scan: one row for each layer or group, one column for each sparsity."""
    hot, names = heat(found.layers), labels(found)
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    table.add_column("layer" if found.unit == "weights" else "group", overflow="fold")
    table.add_column(found.unit, justify="right", no_wrap=True)
    for level in found.sparsities:
        table.add_column(f"{level:g}", justify="right", no_wrap=True)
    for name, values in found.layers.items():
        cells = [
            Text(cell(value), style=f"black on {_STEPS[min(len(_STEPS) - 1, int(part * len(_STEPS)))]}")
            for value, part in zip(values, hot[name], strict=True)
        ]
        table.add_row(escape(names[name]), count(found.sizes[name]), *cells)
    console.print(table)
    console.print(explanation(found), style="dim", highlight=False)
