"""A sweep in the terminal: one table for each model, a row for each method and sparsity."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sparsify.naming import plural
from sparsify.report.quantities import share
from sparsify.sweeps.results import DENSE, Measured, Row
from sparsify.sweeps.trials import Cell

__all__ = ["name", "one_by_one", "print_sweep", "removed_macs", "together"]

_ERRORS = 5  # of trials that failed, that are printed
_METHOD = 24  # characters of a name that are not broken


def print_sweep(console: Console, made: Sequence[Row], found: Sequence[Measured]) -> None:
    """Print the rows of a sweep, and what failed."""
    for model in dict.fromkeys(row.model for row in made):
        own = [row for row in made if row.model == model]
        console.print(_table(model, own))
        console.print()
    console.print(
        "Means over seeds, with the 95% interval of the mean; where all seeds give the same, that of the score's own "
        "examples. non-zeros, MACs: what is left of the model before; *: nothing else has less at no lower score.",
        style="dim", highlight=False,
    )  # fmt: skip
    for text in filter(None, (together(found), *one_by_one(found), *_failures(found))):
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def together(found: Sequence[Measured]) -> str:
    """Say of how many trials seeds were trained at once; empty if of none."""
    several = [one.together for one in found if one.together > 1]
    if not several:
        return ""
    many = f"{len(several)} of {plural(len(found), 'trial')}"
    return f"{many} were trained up to {max(several)} seeds at once, which is the same up to the order of sums."


def one_by_one(found: Sequence[Measured]) -> list[str]:
    """Say which rows' seeds were trained one by one though `--batch-seeds yes` was said, once for each reason."""
    alike: dict[str, dict[Cell, None]] = {}
    for one in found:
        if why := (one.report or {}).get("one_by_one"):
            alike.setdefault(str(why), {})[one.trial.cell] = None
    return [
        f"trained one by one, not at once: {_cell(next(iter(cells)))}{_more(cells)}: {why}"
        for why, cells in alike.items()
    ]


def removed_macs(own: Sequence[Row]) -> bool:
    """Whether any row of a model has fewer multiply-accumulates than it had."""
    return any(row.macs_share is not None and row.macs_share < 1 for row in own)


def _table(model: str, own: Sequence[Row]) -> Table:
    table = Table(title=escape(model), title_justify="left", title_style="bold", box=None, padding=(0, 1),
                  pad_edge=False, header_style="dim")  # fmt: skip
    score, macs = next((row.score_name for row in own if row.score_name), "score"), removed_macs(own)
    longest = max(len(row.method) for row in own)
    table.add_column("method", overflow="fold", min_width=min(_METHOD, longest))
    for heading in ("sparsity", "seeds", score, "95%", "non-zeros", *(["MACs"] if macs else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in own:
        cells = [
            escape(row.method), "" if row.sparsity is None else f"{row.sparsity:g}", _seeds(row),
            "" if row.score is None else f"{row.score:.4f}", _reach(row), _part(row, "nonzero_share"),
            *([_part(row, "macs_share")] if macs else []),
        ]  # fmt: skip
        table.add_row(*cells, style="dim" if row.method == DENSE else "green" if "*" in "".join(cells[5:]) else None)
    return table


def _seeds(row: Row) -> str:
    if row.method == DENSE:
        return ""
    return f"{row.seeds} of {len(row.trials)}" if row.seeds < len(row.trials) else str(row.seeds)


def _reach(row: Row) -> str:
    return "" if row.reach is None else f"± {row.reach:.4f}"


def _part(row: Row, quantity: str) -> str:
    value = getattr(row, quantity)
    return "" if value is None else f"{share(value)} {'*' if quantity in row.front else ' '}"


def _failures(found: Sequence[Measured]) -> list[str]:
    """Say what went wrong, once for trials that failed alike."""
    alike: dict[str, list[Measured]] = {one.error: [] for one in found if one.error is not None}
    for one in found:
        if one.error is not None:
            alike[one.error].append(one)
    lines = [f"failed: {name(members[0])}{_more(members)}: {error}" for error, members in alike.items()]
    return [*lines[:_ERRORS], *([f"and {len(lines) - _ERRORS} other errors"] if len(lines) > _ERRORS else [])]


def _more(members: Collection[object]) -> str:
    return f" and {plural(len(members) - 1, 'other')}" if len(members) > 1 else ""


def name(one: Measured) -> str:
    """Say which trial it is."""
    return f"{_cell(one.trial.cell)}, seed {one.trial.seed}"


def _cell(cell: Cell) -> str:
    level = "" if cell.sparsity is None else f" at {cell.sparsity:g}"
    return f"{cell.model}, {cell.method}{level}"
