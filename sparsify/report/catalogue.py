"""What there is, as pages of the docs: `python -m sparsify.report.catalogue criteria > docs/criteria.md`, and methods.

Both are made from the docstrings, as `sparsify explain` reads them, and import no torch.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sparsify.registry import Entry, Option, data_of, entries
from sparsify.rule_options import defaults

__all__ = ["criteria", "methods"]

_CRITERIA = """\
# Criteria

Made from the sources by `python -m sparsify.report.catalogue criteria`; `sparsify explain NAME` says more.

A criterion gives a score, higher means keep. What is marked it can score: single **weights** (`weight-prune`),
**channels**, heads, groups and experts (`channel-prune`), **blocks** (`layer-prune`). Where a criterion scores
weights alone, a channel has the sum over all weights that go with it, and a block the mean over its weights, because
norms of whole layers are not comparable across stages; where it scores channels, a block has the mean over the
channels of what it adds. A dash means that the paper's idea says nothing about it: an output entropy of a single
weight, a rank of a feature map of one weight.

*Data* is what it looks at besides the weights: inputs (the example inputs, or a task's batches), a loss (a task),
labels (a task with `labels(batch)`). Everything is collected in as few runs over the data as possible and in memory
that does not grow with it. Models are in evaluation mode: batch norms divide by running statistics, which are 0 and 1
in an untrained network. Code of papers on pruning at initialization scores with those of the batch, as `norms=batch`
of `weight-prune` and `pai` does.

| criterion | weights | channels | blocks | data | score | source |
|---|---|---|---|---|---|---|
"""


_METHODS = """\
# Methods and their sources

Made from the sources by `python -m sparsify.report.catalogue methods`; `sparsify explain NAME` says the same in a
terminal. What scores weights, channels and layers is a page of its own: [criteria](criteria.md).
"""
_SECTIONS = {  # package: title, what it says, heading of the column between the first line and the source
    "passes": (
        "Passes",
        "`--pass NAME:key=value`, in any order and number. What is exact keeps the function, and is held to it after "
        "every run; what is lossy decides.",
        "contract",
    ),
    "methods": ("Retraining", "`--retrain NAME:key=value`, after the passes.", ""),
    "mask_updates": (
        "Rules of sparse training",
        "`--retrain dst:method=NAME`: which weights move. When, and how many, is each rule's own.",
        "defaults",
    ),
    "strong": (
        "Ways of scoring",
        "`--retrain strong:method=NAME`: scores are trained, weights are not.",
        "defaults",
    ),
}
_TYPES = {"bool": "`yes`, `no`", "str": "text", "int": "whole number", "float": "number"}
_CONTRACT = re.compile(r"contract: ClassVar\[Contract\] = Contract\.(\w+)")
_LISTS = re.compile(r"\n\n(?:Options|Attributes|Args|Raises|Reference):?.*", re.DOTALL)


def criteria() -> str:
    """Return the page of all criteria."""
    return _CRITERIA + "\n".join(_criterion(entry) for entry in entries("sparsify.criteria").values()) + "\n"


def methods() -> str:
    """Return the page of passes, retraining methods, rules of sparse training and ways of scoring."""
    return _METHODS + "".join(_section(package) for package in _SECTIONS)


def _criterion(entry: Entry) -> str:
    marks = ["yes" if scope in entry.scores else "–" for scope in ("weights", "channels", "blocks")]
    options = f" ({', '.join(option.name + '=' for option in entry.options)})" if entry.options else ""
    data = data_of(entry.needs)
    summary = entry.summary.rstrip(".")
    return _row(f"`{entry.name}`{options}", *marks, "–" if data == "nothing" else data, summary, _source(entry))


def _section(package: str) -> str:
    title, text, extra = _SECTIONS[package]
    found = entries(f"sparsify.{package}").values()
    headings = ["name", "what it does", *[extra] * bool(extra), "source"]
    rows = [_row(*headings), "|---" * len(headings) + "|"]
    for entry in found:
        between = [_contract(entry) if extra == "contract" else _defaults(entry)] if extra else []
        rows.append(_row(f"[`{entry.name}`](#{_anchor(entry)})", entry.summary.rstrip("."), *between, _source(entry)))
    details = "".join(_details(entry) for entry in found)
    return f"\n## {title}\n\n{text}\n\n" + "\n".join(rows) + f"\n{details}"


def _details(entry: Entry) -> str:
    """Return what the docstring says of one, and its options as a table."""
    body = _LISTS.sub("", entry.text).partition("\n")[2].strip()
    parts = [f"\n### {entry.name} {{#{_anchor(entry)}}}", entry.summary, *[body] * bool(body)]
    if options := _options(entry):
        values = [_row("option", "values", "default", ""), "|---|---|---|---|"]
        values += [_row(f"`{o.name}=`", _values(o), _default(o), o.help) for o in options]
        parts.append("\n".join(values))
    return "\n\n".join(parts) + "\n"


def _anchor(entry: Entry) -> str:
    """Return where one is described; `freeze` is a pass and a retraining."""
    return f"{entry.module.split('.')[1]}-{entry.name}"


def _values(option: Option) -> str:
    if re.fullmatch(r"\d+(it|ep)", option.default or ""):
        return "steps or epochs"
    choices = ", ".join(f"`{value}`" for value in option.type.split("|"))
    return choices if "|" in option.type else _TYPES.get(option.type, "list")  # what is left are tuples


def _default(option: Option) -> str:
    words = {"True": "yes", "False": "no", "None": "", "()": "", "": ""}
    value = words.get(option.default or "", option.default or "")
    return f"`{value}`" if value else ""


def _contract(entry: Entry) -> str:
    spec = importlib.util.find_spec(entry.module)
    assert spec is not None
    assert spec.origin is not None
    found = _CONTRACT.search(Path(spec.origin).read_text("utf-8"))
    assert found is not None, f"{entry.module} says no contract"
    return found[1].lower()


def _options(entry: Entry) -> list[Option]:
    """Return what one takes; the other fields of a rule of sparse training are what the loop gives it."""
    if not entry.module.startswith("sparsify.mask_updates."):
        return list(entry.options)
    known = defaults(entry.name)
    return [replace(option, default=known[option.name]) for option in entry.options if option.name in known]


def _defaults(entry: Entry) -> str:
    known = {option.name: _default(option).strip("`") for option in _options(entry)}
    return ", ".join(f"`{name}={value}`" for name, value in known.items() if value) or "–"


def _source(entry: Entry) -> str:
    found = re.search(r"Reference: (.+?)(?:\n\n|\Z)", entry.text, re.DOTALL)
    return " ".join(found[1].split()).rstrip(".") if found else "–"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


_PAGES: dict[str, Callable[[], str]] = {"criteria": criteria, "methods": methods}

if __name__ == "__main__":
    if sys.argv[1:2] not in ([name] for name in _PAGES):
        sys.exit(f"python -m sparsify.report.catalogue {'|'.join(_PAGES)}")
    sys.stdout.write(_PAGES[sys.argv[1]]())
