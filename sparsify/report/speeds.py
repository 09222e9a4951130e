"""What `sparsify bench FILE FILE` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from sparsify.naming import first_names
from sparsify.report.groups import broken
from sparsify.report.quantities import size, time

if TYPE_CHECKING:
    from rich.console import Console

    from sparsify.file_bench import Measured, Table

__all__ = ["masks_note", "print_speeds"]

_OTHERS, _LEAST = 62, 12  # places that the other columns take, and that names have at least
_STYLES = {"faster": "green", "slower": "red", "within noise": "dim"}


def print_speeds(console: Console, tables: Sequence[Table]) -> None:
    """Print a table for each batch size, and what was measured how."""
    from rich.table import Table as Lines

    names = _short([row.name for row in tables[0].rows])
    for table in tables:
        runtimes = dict.fromkeys(row.runtime for row in table.rows)
        lines = Lines(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
        lines.add_column("file", overflow="fold", min_width=8)
        for name in ("size", "latency", "spread", "speed", "99% interval"):
            lines.add_column(name, justify="right", no_wrap=True)
        lines.add_column("", no_wrap=True)
        for row in table.rows:
            runtime = f" ({row.runtime.split()[0]})" if len(runtimes) > 1 else ""
            name = broken(names[row.name] + runtime, max(_LEAST, console.width - _OTHERS))
            lines.add_row(name, *_cells(row), style="" if row.speed is None else _STYLES[row.speed.verdict])
        threads = f"{table.threads} {'thread' if table.threads == 1 else 'threads'}"
        console.print(f"batch {table.batch}, {threads}, {' and '.join(runtimes)}", highlight=False)
        console.print(lines)
    runs = tables[0].rows[0].latency.runs
    more = " Speeds are those against the first file." if len(tables[0].rows) > 1 else ""
    text = f"Latency is the median of {runs} runs in turns, spread the distance of its quartiles.{more}"
    console.print(text, style="dim", highlight=False)
    if note := masks_note([names[row.name] for row in tables[0].rows if row.masked]):
        console.print(note, style="dim", highlight=False, markup=False)


def masks_note(names: Sequence[str]) -> str:
    """Say what masks cost the models of these names, and how to be without them; nothing if there are none."""
    if not names:
        return ""
    subject = f"{first_names(names)} {'has' if len(names) == 1 else 'have'}"
    return (
        f"{subject} masks, which every run applies, and which are kept beside the weights. What --pass fold, "
        "--pass lower or -o FILE.onnx writes has none."
    )


def _short(paths: Sequence[str]) -> dict[str, str]:
    """Return for each path the file's name alone, where those differ."""
    names = {path: PurePath(path).name for path in paths}
    return names if len(set(names.values())) == len(names) else {path: path for path in paths}


def _cells(row: Measured) -> list[str]:
    latency, speed = row.latency, row.speed
    spread = f"{(latency.high - latency.low) / latency.median:.0%}"
    words = (
        ["", "", ""] if speed is None else [f"{speed.ratio:.2f}x", f"{speed.low:.2f}-{speed.high:.2f}", speed.verdict]
    )
    return [size(row.bytes), time(latency.median), spread, *words]
