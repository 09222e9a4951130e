"""The commands that say what there is: `sparsify passes`, `sparsify criteria`, `sparsify explain`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from sparsify import registry
from sparsify.console import out, print_json
from sparsify.errors import UsageError
from sparsify.options import AsJson
from sparsify.report import terminal
from sparsify.report.rules import print_rule, print_rules, print_way, print_ways
from sparsify.spec import nearest

__all__ = ["criteria", "explain", "passes"]

_KINDS = {  # what is behind a name, as it is chosen
    "passes": "--pass ",
    "criteria": "criterion=",
    "methods": "--retrain ",
    "mask_updates": "--retrain dst:method=",
    "strong": "--retrain strong:method=",
    "tasks": "--task ",
}


def passes(*, as_json: AsJson = False) -> None:
    """List the passes with their options and defaults."""
    _list("sparsify.passes", as_json)


def criteria(*, as_json: AsJson = False) -> None:
    """List the criteria that decide what is removed."""
    _list("sparsify.criteria", as_json)


def explain(name: str, /) -> None:
    """Explain a pass, criterion, retraining method, rule of sparse training, way of scoring, task, or one's choice."""
    known = {kind: registry.entries(f"sparsify.{kind}") for kind in _KINDS}
    found = {kind: entries[name] for kind, entries in known.items() if name in entries}
    if not found:
        _explain_choice(name, known)
        return
    for number, (kind, entry) in enumerate(found.items()):
        if number:
            out.print()
        if kind == "mask_updates":
            print_rule(out, entry)
            continue
        if kind == "strong":
            print_way(out, entry)
            continue
        terminal.print_entry(out, entry, f"{_KINDS[kind]}{name}" if len(found) > 1 else name)
        if entry.module == "sparsify.methods.dst":
            out.print()
            print_rules(out, known["mask_updates"])
        if entry.module == "sparsify.methods.strong":
            out.print()
            print_ways(out, known["strong"])


def _explain_choice(name: str, known: Mapping[str, Mapping[str, registry.Entry]]) -> None:
    """Say whose option has a choice of that name, and explain that one if there is only one."""
    options = [
        (kind, entry, option)
        for kind, entries in known.items() for entry in entries.values() for option in entry.options
        if "|" in option.type
    ]  # fmt: skip
    having = [(kind, entry, option) for kind, entry, option in options if name in option.type.split("|")]
    if not having:
        names = list(dict.fromkeys(name for entries in known.values() for name in entries))
        choices = [choice for _, _, option in options for choice in option.type.split("|")]
        raise UsageError(
            f"There is nothing called {name!r}{nearest(name, [*names, *choices])}. There are: {', '.join(names)}."
        )
    for kind, entry, option in having:
        text = f": {option.help}" if option.help else ""
        out.print(f"{_KINDS[kind]}{entry.name}:{option.name}={name}{text}", highlight=False, markup=False)
    owners = dict.fromkeys((kind, entry.name) for kind, entry, _ in having)
    if len(owners) == 1:
        out.print()
        terminal.print_entry(out, having[0][1])
    else:
        out.print(f"`sparsify explain {having[0][1].name}` has more on one.", style="dim", highlight=False)


def _list(package: str, as_json: bool) -> None:
    found = list(registry.entries(package).values())
    if as_json:
        print_json([asdict(entry) for entry in found])
        return
    terminal.print_entries(out, found)
