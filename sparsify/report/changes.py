"""What `sparsify diff` prints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from sparsify.naming import plural
from sparsify.report.quantities import change, count, size

if TYPE_CHECKING:
    from rich.console import Console

    from sparsify.differences import Difference, Differences
    from sparsify.modules import Side

__all__ = ["print_differences"]


def print_differences(console: Console, found: Differences, names: tuple[str, str]) -> None:
    """Print the sizes of two models, the modules that differ, and how far apart their outputs are."""
    console.print(_totals(found))
    if found.modules:
        console.print()
        console.print(_modules(found.modules))
    folded = [item for item in found.modules if item.before is not None and item.after is None and not item.before.macs]
    if folded and names[1].endswith(".onnx"):
        text = "Exporters fold norms into the layer before them: a norm that is gone from an ONNX file may be in there."
        console.print(text, style="dim", highlight=False)
    for note in _numbers(found, names):
        console.print(note, style="dim", highlight=False, markup=False)
    console.print()
    console.print(f"{plural(found.same, 'module')} the same, bit for bit", highlight=False)
    console.print(_outputs(found, names[0]), highlight=False, markup=False)


def _totals(found: Differences) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "before", "after", "change"):
        table.add_column(heading, justify="right" if heading else "left")
    before, after = found.costs
    for label, key in (("parameters", "parameters"), ("non-zeros", "nonzero")):
        one, two = getattr(before, key), getattr(after, key)
        table.add_row(label, count(one), count(two), change(one, two))
    sizes = list(dict.fromkeys(found.batches))
    compared = change(before.macs, after.macs) if len(sizes) == 1 else ""  # MACs of other batches are not fewer or more
    table.add_row(f"MACs (batch {' → '.join(map(str, sizes))})", count(before.macs), count(after.macs), compared)
    table.add_row("in memory", size(before.bytes), size(after.bytes), change(before.bytes, after.bytes))
    return table


def _modules(modules: list[Difference]) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    table.add_column("module", overflow="fold")
    for heading in ("shape", "zeros", "MACs", "moved"):
        table.add_column(heading, justify="right", no_wrap=heading != "shape")
    for item in modules:
        style = "red" if item.after is None else "green" if item.before is None else ""
        table.add_row(item.module, *_cells(item), style=style)
    return table


def _cells(item: Difference) -> list[str]:
    one, two = item.before, item.after
    if one is None or two is None:
        side, word = (two, "new") if one is None else (one, "gone")
        assert side is not None
        return [_shape(side), _zeros(side), count(side.macs), word]
    shape, zeros, macs = (
        text(one) if text(one) == text(two) else f"{text(one)} → {text(two)}" for text in (_shape, _zeros, _macs)
    )
    return [shape, zeros, macs, "" if item.moved is None else f"{item.moved:.2g}"]


def _shape(side: Side) -> str:
    return "x".join(map(str, side.shape)) or "scalar"


def _zeros(side: Side) -> str:
    return f"{1 - side.nonzero / side.parameters:.1%}" if side.nonzero < side.parameters else "0%"


def _macs(side: Side) -> str:
    return count(side.macs) if side.macs else ""


def _numbers(found: Differences, names: tuple[str, str]) -> Iterator[str]:
    """Say which blocks have other numbers, or that they may have."""
    lists: dict[str, list[str]] = {}
    for block in found.renumbered.values():
        name, _, number = block.rpartition(".")
        lists.setdefault(name, []).append(number)
    for name, numbers in lists.items():
        yield (
            f"{names[1]} counts the blocks of {name} anew: they are {', '.join(numbers)} of {names[0]}, bit for bit. "
            f"Names above are those of {names[0]}."
        )
    gone = any(item.after is None and re.search(r"\.\d+\.", item.module) for item in found.modules)
    if gone and not lists and Path(names[1]).is_dir() and any(item.moved for item in found.modules):
        yield "Folders count the blocks that are left anew: a block that moved may be another one than before."


def _outputs(found: Differences, first: str) -> str:
    if found.gap is None:
        return "Inputs or outputs have other names or sizes, so that what the models compute cannot be compared."
    if found.equal:
        how = f"{found.gap:.1g} apart, which is rounding" if found.gap else "bit for bit"
        return f"On the example of {first} both compute the same ({how})."
    return f"On the example of {first} outputs are up to {found.gap:.2g} apart (relative)."
