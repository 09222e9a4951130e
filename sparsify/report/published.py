"""Published results in the terminal: one table for each network and data, runs of one's own above, sources below."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sparsify.published.run import Run
from sparsify.published.table import PERCENT, Result, lower_is_better
from sparsify.report.quantities import share

__all__ = ["group", "print_published"]

_METHOD = 22  # characters: a table of eighty has room for no more


def print_published(console: Console, results: Sequence[Result], runs: Sequence[Run]) -> None:
    """Print runs, then results by network and data, rising in sparsity, then the sources that the rows point at."""
    if runs:
        _print_runs(console, runs)
    sources: dict[str, int] = {}
    for title, members in group(results).items():
        table = _table(title, "method", 5)
        for result in members:
            cite = f"{result.paper}, {result.year}. {result.source}"
            number = sources.setdefault(cite, len(sources) + 1)
            table.add_row(escape(result.method), *_cells(result), str(result.year), escape(f"[{number}]"))
        console.print(table)
        console.print()
    console.print("sparsity, MACs: the part that is gone; empty: the source does not say", style="dim", highlight=False)
    for cite, number in sources.items():
        console.print(f"[{number}] {cite}", style="dim", highlight=False, markup=False)


def group(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Return results by network, data and score, each rising in sparsity."""
    groups: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda one: (one.data, one.architecture, one.metric, *_order(one))):
        groups.setdefault(f"{result.architecture} on {result.data}: {_score(result.metric)}", []).append(result)
    return groups


def _order(result: Result) -> tuple[bool, float, float]:
    gone = result.sparsity if result.sparsity is not None else result.macs_removed
    return result.sparsity is None, gone or 0.0, result.score if lower_is_better(result.metric) else -result.score


def _score(metric: str) -> str:
    if metric.endswith(("(higher)", "(lower)")):
        return f"{metric[:-1]} is better)"
    unit = " in %" if metric in PERCENT else ""
    return f"{metric}{unit} ({'lower' if lower_is_better(metric) else 'higher'} is better)"


def _table(title: str, first: str, last: int) -> Table:
    table = Table(title=escape(title), title_justify="left", title_style="bold", box=None, padding=(0, 1),
                  pad_edge=False, header_style="dim")  # fmt: skip
    table.add_column(first, overflow="fold", min_width=_METHOD)
    for heading in ("sparsity", "MACs", "score", "dense", "change"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("year", "source")[: last - 3]:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _print_runs(console: Console, runs: Sequence[Run]) -> None:
    table = _table("Your runs", "report", 3)
    table.add_column("", no_wrap=True)
    for run in runs:
        unit = " in %" if run.metric in PERCENT else ""
        table.add_row(
            escape(run.name), *_cells(run), escape(f"{run.metric}{unit}") if run.metric else "", style="green"
        )
    console.print(table)
    console.print("sparsity: of all parameters before; MACs: as they are computed, zeros included", style="dim",
                  highlight=False)  # fmt: skip
    for run in runs:
        if run.interval is not None:
            low, high = run.interval
            count = "" if run.n is None else f", n = {run.n}"
            console.print(f"{run.name}: 95% interval of the score {low:.4g} to {high:.4g}{count}", style="dim",
                          highlight=False, markup=False)  # fmt: skip
        if run.lacking:
            console.print(f"note: {run.name} does not say {' nor '.join(run.lacking)}.", highlight=False, markup=False)
    console.print()


def _cells(one: Result | Run) -> tuple[str, ...]:
    return (
        *("" if part is None else share(part) for part in (one.sparsity, one.macs_removed)),
        *("" if value is None else f"{value:.2f}" for value in (one.score, one.dense_score)),
        "" if one.change is None else f"{one.change:+.2f}",
    )
