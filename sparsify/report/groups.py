"""The groups of a model in the terminal: what can be pruned, and why the rest cannot."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sparsify.naming import first_names
from sparsify.report.quantities import count, share

if TYPE_CHECKING:
    from sparsify.groups import Group
    from sparsify.prunable import Frozen, Prunable

__all__ = ["Row", "broken", "print_groups", "rows", "short_note", "total"]

_FOLD = 40  # rows; more are folded where layers repeat
_NUMBER = re.compile(r"(?<![^.])\d+(?=[./#]|$)")
_SHORT = {
    "depends on how many indices it has": "counts it",
    "sums over it values that a mask does not make zero": "adds what is not zero",
    "is not finite at zero": "is not finite at zero",
}


@dataclass(frozen=True)
class Row:
    """A line of the table of groups.

    Attributes:
        name: of the group; with `*` for what differs between those of repeated layers.
        kind: what one index is.
        size: the number of indices.
        members: the number of parameter dimensions.
        parameters: that go away with one index.
        macs: that go away with one index.
        note: why masking is not removing, in short.
        times: how many groups the line stands for.
    """

    name: str
    kind: str
    size: int
    members: int
    parameters: int
    macs: int
    note: str
    times: int = 1


def rows(found: Prunable) -> list[Row]:
    """Return the lines of the table of groups; a long table has one line for the same group of repeated layers."""
    single = [_row(group, *found.savings[group.name]) for group in found.free]
    if len(single) <= _FOLD:
        return single
    alike: dict[Row, list[Row]] = {}
    for row in single:
        alike.setdefault(replace(row, name=_NUMBER.sub("*", row.name)), []).append(row)
    return [_folded(together) for together in alike.values()]


def _row(group: Group, parameters: int, macs: int) -> Row:
    return Row(group.name, group.kind, group.size, len(group.members), parameters, macs, short_note(group.note))


def _folded(together: Sequence[Row]) -> Row:
    """Make one line of lines that differ in numbers of their names only."""
    first = together[0]
    numbers = list(zip(*(_NUMBER.findall(row.name) for row in together), strict=True))
    written = iter([one[0] if len(set(one)) == 1 else "*" for one in numbers])
    name = _NUMBER.sub(lambda match: next(written), first.name)
    return replace(first, name=name, times=len(together))


def short_note(note: str) -> str:
    """Shorten why masking is not removing: `layer_norm counts it`."""
    operator, _, rest = note.partition(" ")
    return f"{operator.removeprefix('aten::')} {_SHORT.get(rest, rest)}" if note else ""


def total(found: Prunable) -> str:
    """Say what part of a model can be pruned."""
    return (
        f"{share(found.parameters)} of the parameters and {share(found.macs)} of the multiply-accumulates can be pruned"
    )


def print_groups(console: Console, found: Prunable) -> None:
    """Print the groups of a model, the frozen axes by their reasons, and what part of it can be pruned.

    Args:
        console: where to.
        found: what can be pruned.
    """
    if found.free:
        _print_free(console, rows(found), len(found.free))
    else:
        console.print("no group: nothing narrower than a layer can be pruned", highlight=False)
    if found.frozen:
        _print_frozen(console, found.frozen)
    for name, nodes in found.unknown.items():
        times = f", used {len(nodes)} times," if len(nodes) > 1 else ""
        console.print(
            f"[yellow]warning: {escape(name)}{times} has no axis rule, so all that it touches is frozen; "
            "give it one with sparsify.axis_rule[/]",
            highlight=False,
        )
    console.print(total(found), style="bold", highlight=False)


def _print_free(console: Console, lines: Sequence[Row], groups: int) -> None:
    notes = list(dict.fromkeys(row.note for row in lines if row.note))
    cells = []
    for row in lines:
        times = f" x{row.times}" if row.times > 1 else ""
        mark = f" ({notes.index(row.note) + 1})" if row.note else ""
        numbers = (str(row.size), str(row.members), count(row.parameters), count(row.macs))
        cells.append((row.name + times + mark, row.kind, *numbers))
    headings = ("group", "kind", "size", "members", "parameters", "MACs")
    title = f"{groups} prunable {'group' if groups == 1 else 'groups'}"
    console.print(_table(title, headings, cells, 0, console.width))
    console.print("parameters and MACs: what removing one index of the group saves", style="dim", highlight=False)
    for number, note in enumerate(notes, 1):
        console.print(f"({number}) masking an index is not removing it: {note}", highlight=False, markup=False)


def _print_frozen(console: Console, frozen: Sequence[Frozen]) -> None:
    axes = sum(item.axes for item in frozen)
    title = f"{axes} frozen {'axis' if axes == 1 else 'axes'}"
    cells = [(item.reason, str(item.axes), share(item.share), first_names(item.parameters)) for item in frozen]
    console.print(_table(title, ("reason", "axes", "parameters", "such as"), cells, 3, console.width))
    console.print("parameters: the part that has no other axis to prune", style="dim", highlight=False)


def _table(title: str, headings: Sequence[str], cells: Sequence[Sequence[str]], wide: int, width: int) -> Table:
    """Return a table; the column `wide` holds names, which are broken at their dots where they do not fit."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in headings:
        right = heading in ("size", "members", "axes", "parameters", "MACs")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    columns = zip(headings, *cells, strict=True)
    others = sum(max(map(cell_len, column)) + 2 for index, column in enumerate(columns) if index != wide)
    for row in cells:
        table.add_row(*(escape(broken(cell, width - others) if i == wide else cell) for i, cell in enumerate(row)))
    return table


def broken(names: str, width: int) -> str:
    """Break names into lines: between them, and behind dots and slashes where one alone is too long."""
    lines = [""]
    for name in re.findall(r"[^ ]+ ?", names):
        for piece in [name] if cell_len(name.rstrip()) <= width else re.findall(r"[^./]*[./]|[^./]+", name):
            if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > width:
                lines.append("")
            lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)
