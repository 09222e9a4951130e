"""What a user sees in the terminal: results as tables on stdout, progress on stderr."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from sparsify.naming import plural
from sparsify.registry import Entry, data_of
from sparsify.report.quantities import change, count, size, time, time_range
from sparsify.report.retraining import print_retraining
from sparsify.report.timeline import proof

if TYPE_CHECKING:
    from pathlib import Path

    from sparsify.blocks import Block
    from sparsify.inspection import Inspection

__all__ = ["print_block_list", "print_entries", "print_entry", "print_gates", "print_report", "print_summary"]

_WIDTHS = 5  # different changes of width that are listed
_OPTIONS = re.compile(r"(Options|Attributes):\n")


def print_report(console: Console, report: Mapping[str, Any], *written: Path | None) -> None:
    """Print what a run changed: one row for each quantity, before and after.

    Args:
        console: where to.
        report: what the job returned.
        written: where reports and what the gates found were written; None is nowhere.
    """
    console.print(_changes(report))
    if report.get("latency"):
        one = report["latency"]["before"]
        threads = "1 thread" if one["threads"] == 1 else f"{one['threads']} threads"
        console.print(
            f"Latency in onnxruntime on {threads}, batch {one['batch']}: median of {one['runs']} runs, in turns with "
            "the model before; below it quartiles, and the 99% interval of the speed.",
            style="dim",
            highlight=False,
        )
    for step in report["passes"]:
        console.print(f"[bold]{escape(step['pass'])}[/]{escape(_done(step))}, [green]{proof(step)}[/]", highlight=False)
    if report.get("retrain"):
        print_retraining(console, report["retrain"])
    for artefact in report.get("artefacts", ()):
        text = f"wrote {artefact['path']} ({size(artefact['bytes'])}{_packed(artefact)}{_checked(artefact)})"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    for also in filter(None, (*written, report.get("log"))):
        console.print(f"wrote {also}", highlight=False, markup=False, soft_wrap=True)
    for note in report["notes"]:
        console.print(f"note: {note}", highlight=False, markup=False)
    print_gates(console, report["gates"])
    console.print(f"again: {report['command']}", highlight=False, markup=False, soft_wrap=True)


def print_gates(console: Console, gates: Sequence[Mapping[str, Any]]) -> None:
    """Print for each gate whether it was passed, and what was found."""
    for gate in gates:
        passed, text = gate["passed"], f"{gate['gate']}: {gate['text']}"
        console.print(f"{'passed' if passed else 'FAILED'}  {text}", style="green" if passed else "red",
                      highlight=False, markup=False, soft_wrap=not console.is_terminal)  # fmt: skip


def _checked(artefact: Mapping[str, Any]) -> str:
    """Say how far an artefact is from the program, or that it has not been run."""
    if artefact.get("ran") is False:
        return f", {artefact['sparse']} weights as bitmasks, not run: that takes a Mac"
    gap = artefact.get("largest_difference")
    return "" if gap is None else f", differs from the program by {gap:.1g} at most" if gap else ", exact"


def _packed(artefact: Mapping[str, Any]) -> str:
    """Say what packing an artefact has saved, and what rounding has changed."""
    if artefact.get("storage") != "packed":
        return ", compressed" if "compress" in artefact else ""
    if "dense_bytes" not in artefact:
        return ", packed and compressed" if "compress" in artefact else ", packed"
    text = f", packed: {artefact['bytes'] / artefact['dense_bytes']:.1%} of {size(artefact['dense_bytes'])}"
    if any(item["drawn"] for item in artefact["packed"]):
        text += ", frozen weights from their seed, for onnxruntime alone"
    if artefact["values"] == "fp32":
        return text
    worst = max(item["error"] for item in artefact["packed"])
    return (f"{text}; kept values as {artefact['values']}: weights differ by {worst:.1g} at most, outputs by "
            f"{artefact['rounding']:.1g}")  # fmt: skip


def _done(step: Mapping[str, Any]) -> str:
    """Say in a few words what a pass did; passes can say it themselves, as `done`."""
    if "done" in step:
        return f": {step['done']}"
    if "reached" in step:
        (kind, asked), *_ = step["asked"].items()
        at_once = f", {len(step['removed_at_once'])} of them removed at once" if step.get("removed_at_once") else ""
        changes = f"{plural(len(step['groups']), 'group')} ({_widths(step['groups'])}){at_once}"
        return f": {changes}, {kind} {step['reached']:.3g} (asked for {asked:.3g})"
    removed = step.get("removed")
    if isinstance(removed, Mapping):
        if not removed:
            return ": nothing to remove, because no mask makes a whole channel, head or expert zero"
        return f": {plural(len(removed), 'group')} made smaller ({_widths(removed)})"
    return f": removed {', '.join(removed) or 'nothing'}" if removed is not None else ""


def _widths(changes: Mapping[str, str]) -> str:
    """Say how often which width became which: `64 -> 32 x4`."""
    found = Counter(changes.values()).most_common()
    texts = [f"{change} x{times}" if times > 1 else change for change, times in found[:_WIDTHS]]
    return ", ".join([*texts, f"{len(found) - _WIDTHS} more"] if len(found) > _WIDTHS else texts)


def _changes(report: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, justify in (("", "left"), ("before", "right"), ("after", "right"), ("change", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    before, after = report["before"], report["after"]
    rows = [("parameters", "parameters"), ("non-zeros", "nonzero")]
    if any(side.get("trainable", side["nonzero"]) < side["nonzero"] for side in (before, after)):
        rows.append(("trainable", "trainable"))
    rows.append((f"MACs (batch {report['macs_batch']})", "macs"))
    for label, key in rows:
        table.add_row(label, count(before[key]), count(after[key]), change(before[key], after[key]))
    latency = report.get("latency")
    if latency:
        dense, small = latency["dense_bytes"], latency["bytes"]
        table.add_row("ONNX file", size(dense), size(small), change(dense, small))
        one, two, found = latency["before"], latency["after"], latency["speed"]
        table.add_row("latency", time(one["median"]), time(two["median"]), _speed(found))
        interval = f"{found['low']:.2f}-{found['high']:.2f}x"
        table.add_row("  quartiles", *(time_range(x["low"], x["high"]) for x in (one, two)), interval, style="dim")
    _add_scores(table, report["scores"])
    return table


def _speed(found: Mapping[str, Any]) -> str:
    """Say how much faster or slower a model is, if that is more than noise."""
    verdict, ratio = found["verdict"], found["ratio"]
    return f"{max(ratio, 1 / ratio):.2f}x {verdict}" if verdict in ("faster", "slower") else str(verdict)


def _add_scores(table: Table, scores: Mapping[str, Any] | None) -> None:
    if scores is None:
        return
    one = scores["before"]
    rows = [(f"{one['name']}, after passes", scores["pruned"])] if "pruned" in scores else []
    for label, two in [*rows, (one["name"], scores["after"])]:
        table.add_row(label, f"{one['value']:.4f}", f"{two['value']:.4f}", f"{two['value'] - one['value']:+.4f}")
    if one["interval"]:
        ends = (x["interval"] for x in (one, scores["after"]))
        intervals = (f"{low:.3f}{' to ' if low < 0 else '-'}{high:.3f}" for low, high in ends)
        table.add_row("  95% interval", *intervals, f"n = {one['n']}", style="dim")


def print_summary(console: Console, found: Inspection, name: str) -> None:
    """Print what a model is: size, inputs and outputs, and how it was captured."""
    cost = found.cost
    console.print(
        f"[bold]{escape(name)}[/]: {count(cost.parameters)} parameters, {count(cost.macs)} MACs "
        f"at batch {found.macs_batch}, {size(cost.bytes)}",
        highlight=False,
    )
    for argument, kind in found.inputs.items():
        console.print(f"  input {argument}: {kind}", highlight=False, markup=False)
    for kind in found.outputs:
        console.print(f"  output: {kind}", highlight=False, markup=False)
    if found.frozen:
        console.print(f"  frozen: {found.frozen}; {count(cost.trainable)} parameters are trained", highlight=False)
    console.print(f"  captured for {'any batch size' if found.dynamic_batch else 'one batch size only'}")
    for note in found.notes:
        console.print(f"  note: {note}", highlight=False, markup=False)


def print_block_list(console: Console, blocks: Sequence[Block], costs: Mapping[str, tuple[int, int]]) -> None:
    """Print the blocks of a model with what each would save, and why some cannot go.

    Args:
        console: where to.
        blocks: what to list.
        costs: parameters and MACs that go away with each block, by name.
    """
    if not blocks:
        console.print("no residual block: no sum x + f(x) in which a branch could be dropped", highlight=False)
        return
    removable = sum(block.removable for block in blocks)
    table = Table(title=f"{len(blocks)} blocks, {removable} removable", title_justify="left", box=None, pad_edge=False)
    for heading, justify in (("block", "left"), ("parameters", "right"), ("MACs", "right"), ("removable", "left")):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for block in blocks:
        parameters, macs = costs[block.name]
        verdict = "[green]yes[/]" if block.removable else f"no: {escape(block.reason or '')}"
        if block.contains:
            verdict += f" (contains {escape(', '.join(block.contains))})"
        table.add_row(escape(block.name), count(parameters), count(macs), verdict)
    console.print(table)


def print_entries(console: Console, entries: Sequence[Entry]) -> None:
    """Print passes, criteria or methods with their options and defaults; criteria by what they score."""
    if any(entry.scores for entry in entries):
        _print_criteria(console, entries)
        return
    if not any(entry.options for entry in entries):
        table = Table.grid(padding=(0, 2))
        for entry in entries:
            table.add_row(f"[bold]{entry.name}[/]", escape(entry.summary))
        console.print(table)
        return
    for entry in entries:
        console.print(f"[bold]{entry.name}[/]", highlight=False)
        console.print(Padding(escape(entry.summary), (0, 0, 0, 2)), highlight=False)
        if entry.options:
            console.print(_options(entry))


def _print_criteria(console: Console, entries: Sequence[Entry]) -> None:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    for name in ("criterion", "w", "c", "b", "data", ""):
        table.add_column(name)
    for entry in entries:
        marks = ("•" if scope in entry.scores else "" for scope in ("weights", "channels", "blocks"))
        data = data_of(entry.needs)
        table.add_row(f"[bold]{entry.name}[/]", *marks, "" if data == "nothing" else data, escape(entry.summary))
    console.print(table)
    console.print(
        "w, c, b: scores weights, channels, blocks; data: what it needs besides the weights. `sparsify explain NAME` "
        "has formula and paper. Options follow a slash: criterion=filter-norm/p=2.",
        style="dim",
        highlight=False,
        markup=False,
    )


def _options(entry: Entry) -> Padding:
    table = Table.grid(padding=(0, 2))
    for option in entry.options:
        default = "" if option.default in (None, "None", "()") else f"={option.default}"
        text = (option.help or option.type).removesuffix(".")
        choices = f"; one of {option.type.replace('|', ', ')}" if "|" in option.type else ""
        table.add_row(escape(f"{option.name}{default}"), escape(text + choices), style="dim")
    return Padding(table, (0, 0, 0, 4))


def print_entry(console: Console, entry: Entry, title: str = "") -> None:
    """Print the whole description of one pass, criterion or method, its options with their defaults."""
    console.print(f"[bold]{title or entry.name}[/]", highlight=False)
    for paragraph in entry.text.split("\n\n"):
        if paragraph.startswith("Raises:") or (_OPTIONS.match(paragraph) and not entry.options):
            continue
        console.print()
        if _OPTIONS.match(paragraph):
            console.print("Options:", highlight=False)
            console.print(_options(entry))
            continue
        # What is indented was laid out by hand; other lines were only broken for the source file.
        text = paragraph if re.search("^ ", paragraph, re.MULTILINE) else " ".join(paragraph.split())
        console.print(text, highlight=False, markup=False)
