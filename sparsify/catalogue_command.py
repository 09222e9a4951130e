"""The commands that say what there is: `sparsify passes`, `sparsify criteria`, `sparsify explain`."""

from __future__ import annotations

from dataclasses import asdict

from sparsify import registry
from sparsify.console import out, print_json
from sparsify.errors import UsageError
from sparsify.options import AsJson
from sparsify.report import terminal
from sparsify.report.rules import print_rule, print_rules, print_way, print_ways
from sparsify.spec import nearest

__all__ = ["criteria", "explain", "passes"]


def passes(*, as_json: AsJson = False) -> None:
    """List the passes with their options and defaults."""
    _list("sparsify.passes", as_json)


def criteria(*, as_json: AsJson = False) -> None:
    """List the criteria that decide what is removed."""
    _list("sparsify.criteria", as_json)


def explain(name: str, /) -> None:
    """Explain a pass, a criterion, a retraining method, a rule of sparse training, a way of scoring or a task."""
    kinds = ("passes", "criteria", "methods", "mask_updates", "strong", "tasks")
    known = {kind: registry.entries(f"sparsify.{kind}") for kind in kinds}
    found = {kind: entries[name] for kind, entries in known.items() if name in entries}
    if not found:
        names = [entry for entries in known.values() for entry in entries]
        raise UsageError(f"There is nothing called {name!r}{nearest(name, names)}. There are: {', '.join(names)}.")
    for kind, entry in found.items():
        if kind == "mask_updates":
            print_rule(out, entry)
            continue
        if kind == "strong":
            print_way(out, entry)
            continue
        terminal.print_entry(out, entry)
        if entry.module == "sparsify.methods.dst":
            out.print()
            print_rules(out, known["mask_updates"])
        if entry.module == "sparsify.methods.strong":
            out.print()
            print_ways(out, known["strong"])


def _list(package: str, as_json: bool) -> None:
    found = list(registry.entries(package).values())
    if as_json:
        print_json([asdict(entry) for entry in found])
        return
    terminal.print_entries(out, found)
