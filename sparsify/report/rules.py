"""Rules of sparse training and ways of scoring as tables: what each uses by itself, and where it comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from sparsify.registry import Entry
from sparsify.report.terminal import print_entry
from sparsify.rule_options import RULE_OPTIONS, defaults

__all__ = ["print_rule", "print_rules", "print_way", "print_ways"]

_REFERENCE = re.compile(r"Reference: (.+?), \".+?\", (\d{4})\.")


def print_rules(console: Console, rules: Mapping[str, Entry]) -> None:
    """Print one row for each rule: its defaults and its paper."""
    table = Table(title="method=", title_justify="left", box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    for name in ("", *RULE_OPTIONS, "paper"):
        table.add_column(name, no_wrap=name in RULE_OPTIONS)
    for name, entry in rules.items():
        known = defaults(name)
        table.add_row(f"[bold]{name}[/]", *(known.get(option, "") for option in RULE_OPTIONS), _paper(entry.text))
    console.print(table)
    text = "`sparsify explain rigl` has more on one; what is empty it does not take."
    console.print(text, style="dim", highlight=False)


def print_rule(console: Console, entry: Entry) -> None:
    """Print what a rule is, how it is chosen and what it uses."""
    known = defaults(entry.name)
    options = [replace(option, default=known[option.name]) for option in entry.options if option.name in known]
    print_entry(console, replace(entry, options=tuple(options)))
    text = ", ".join(f"{option}={value}" for option, value in known.items())
    console.print(f"\nIt runs with dst:method={entry.name}; its own defaults: {text or 'none'}.", highlight=False)


def print_ways(console: Console, ways: Mapping[str, Entry]) -> None:
    """Print one row for each way of scoring: its options with their defaults, and its paper."""
    table = Table(title="method=", title_justify="left", box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    for name in ("", "options", "paper"):
        table.add_column(name)
    for name, entry in ways.items():
        table.add_row(f"[bold]{name}[/]", _written(entry), _paper(entry.text))
    console.print(table)
    console.print("`sparsify explain edge-popup` has more on one.", style="dim", highlight=False)


def print_way(console: Console, entry: Entry) -> None:
    """Print what a way of scoring is, and how it is chosen."""
    print_entry(console, entry)
    console.print(f"\nIt runs with strong:method={entry.name}; its own defaults: {_written(entry)}.", highlight=False)


def _written(entry: Entry) -> str:
    words = {"True": "yes", "False": "no"}
    known = {option.name: words.get(option.default or "", option.default) for option in entry.options}
    return ", ".join(f"{name}={value}" for name, value in known.items() if value != "None")


def _paper(text: str) -> str:
    found = _REFERENCE.search(" ".join(text.split()))
    return f"{found[1]} {found[2]}" if found else ""
