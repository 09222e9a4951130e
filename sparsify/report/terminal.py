"""What a user sees in the terminal: results as tables on stdout, progress on stderr."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sparsify.registry import Entry

if TYPE_CHECKING:
    from sparsify.blocks import Block
    from sparsify.program import Program

__all__ = ["print_block_list", "print_entries", "print_entry", "print_report", "print_summary"]


def print_report(console: Console, report: Mapping[str, Any], command: str) -> None:
    """Print what a run changed: one row for each quantity, before and after."""
    console.print(_changes(report))
    for step in report["passes"]:
        removed = f": removed {', '.join(step['removed'])}" if step.get("removed") else ""
        console.print(f"[bold]{escape(step['pass'])}[/]{escape(removed)}  [green]{_proof(step)}[/]", highlight=False)
    for artefact in report.get("artefacts", ()):
        gap = artefact.get("largest_difference")
        checked = "" if gap is None else f", checked: differs from the program by {gap:.1g} at most"
        console.print(f"wrote {artefact['path']} ({_bytes(artefact['bytes'])}{checked})", highlight=False, markup=False)
    for note in report["notes"]:
        console.print(f"note: {note}", markup=False)
    console.print(f"again: {command}", highlight=False, markup=False, soft_wrap=True)


def _proof(step: Mapping[str, Any]) -> str:
    if "contract" not in step:
        return "not verified"
    return "proven equal" if step["contract"] == "exact" else "verified"


def _changes(report: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, justify in (("", "left"), ("before", "right"), ("after", "right"), ("change", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    before, after = report["before"], report["after"]
    rows = (("parameters", "parameters"), ("non-zeros", "nonzero"), ("MACs (batch 1)", "macs"))
    for label, key in rows:
        table.add_row(label, _count(before[key]), _count(after[key]), _change(before[key], after[key]))
    latency = report.get("latency")
    if latency:
        size = next(a["bytes"] for a in report["artefacts"] if a["path"].endswith(".onnx"))
        dense = latency["dense_bytes"]
        table.add_row("ONNX file", _bytes(dense), _bytes(size), _change(dense, size))
        one, two = latency["before"], latency["after"]
        table.add_row(
            f"latency (onnxruntime, {_threads(one['threads'])})",
            _time(one),
            _time(two),
            f"{one['median'] / two['median']:.2f}x faster",
        )
    _add_scores(table, report["scores"])
    return table


def _add_scores(table: Table, scores: Mapping[str, Any] | None) -> None:
    if scores is None:
        return
    one, two = scores["before"], scores["after"]
    if "pruned" in scores:
        pruned = scores["pruned"]
        change = f"{pruned['value'] - one['value']:+.4f}"
        table.add_row(f"{one['name']} before retraining", _score(one), _score(pruned), change)
    table.add_row(f"{one['name']} (n = {one['n']})", _score(one), _score(two), f"{two['value'] - one['value']:+.4f}")


def print_summary(console: Console, program: Program, cost: Mapping[str, int], name: str) -> None:
    """Print what a model is: size, inputs and outputs, and how it was captured."""
    from sparsify.verify import signature

    console.print(
        f"[bold]{escape(name)}[/]: {_count(cost['parameters'])} parameters, "
        f"{_count(cost['macs'])} MACs at batch 1, {_bytes(cost['bytes'])}",
        highlight=False,
    )
    for node in program.placeholders:
        console.print(
            f"  input {node.name}: {program.spelled(_tensor(node.meta.get('val')))}", highlight=False, markup=False
        )
    for text in signature(program):
        console.print(f"  output: {text}", highlight=False, markup=False)
    batch = "any batch size" if program.dynamic_batch else "the example's batch size only"
    console.print(f"  captured for {batch}", highlight=False)
    for note in program.notes:
        console.print(f"  note: {note}", markup=False)


def print_block_list(console: Console, blocks: Sequence[Block], costs: Mapping[str, tuple[int, int]]) -> None:
    """Print the blocks of a model with what each would save, and why some cannot go.

    Args:
        console: where to.
        blocks: what to list.
        costs: parameters and MACs that go away with each block, by name.
    """
    removable = sum(block.removable for block in blocks)
    table = Table(title=f"{len(blocks)} blocks, {removable} removable", title_justify="left", box=None, pad_edge=False)
    for heading, justify in (("block", "left"), ("parameters", "right"), ("MACs", "right"), ("removable", "left")):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for block in blocks:
        parameters, macs = costs[block.name]
        verdict = "[green]yes[/]" if block.removable else f"no: {escape(block.reason or '')}"
        if block.contains:
            verdict += f" (contains {escape(', '.join(block.contains))})"
        table.add_row(escape(block.name), _count(parameters), _count(macs), verdict)
    console.print(table)


def print_entries(console: Console, entries: Iterable[Entry]) -> None:
    """Print passes, criteria or methods with their options and defaults."""
    for entry in entries:
        console.print(f"[bold]{entry.name}[/]  {escape(entry.summary)}", highlight=False)
        if entry.options:
            console.print(_options(entry))


def _options(entry: Entry) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, style="dim")
    for width in (4, None, None):
        table.add_column(width=width)
    for option in entry.options:
        default = "" if option.default in (None, "None", "()") else f"={option.default}"
        table.add_row("", escape(f"{option.name}{default}"), escape(f"{option.help or option.type}"))
    return table


def print_entry(console: Console, entry: Entry) -> None:
    """Print the whole description of one pass, criterion or method."""
    console.print(f"[bold]{entry.name}[/]\n", highlight=False)
    console.print(entry.text, highlight=False, markup=False)


def _tensor(value: Any) -> str:
    if not hasattr(value, "shape"):
        return repr(value)
    return f"{str(value.dtype).removeprefix('torch.')}[{', '.join(map(str, value.shape))}]"


def _count(value: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.2f}{unit}"
    return f"{value:g}"


def _bytes(value: float) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value} B"


def _change(before: float, after: float) -> str:
    return f"{100 * (after - before) / before:+.1f}%" if before else ""


def _time(latency: Mapping[str, Any]) -> str:
    return f"{latency['median']:.3g} ms ({latency['low']:.3g} to {latency['high']:.3g})"


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _score(score: Mapping[str, Any]) -> str:
    interval = score["interval"]
    return f"{score['value']:.4f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")
