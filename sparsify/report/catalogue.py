"""The catalogue of criteria as a page for the docs: `python -m sparsify.report.catalogue > docs/criteria.md`."""

from __future__ import annotations

import re
import sys

from sparsify.registry import Entry, data_of, entries

__all__ = ["catalogue"]

_HEAD = """\
# Criteria

Made from the sources by `python -m sparsify.report.catalogue`; `sparsify explain NAME` says more.

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


def catalogue() -> str:
    """Return the page."""
    rows = [_row(entry) for entry in entries("sparsify.criteria").values()]
    return _HEAD + "\n".join(rows) + "\n"


def _row(entry: Entry) -> str:
    marks = ["yes" if scope in entry.scores else "–" for scope in ("weights", "channels", "blocks")]
    options = f" ({', '.join(option.name + '=' for option in entry.options)})" if entry.options else ""
    found = re.search(r"Reference: (.+?)(?:\n\n|\Z)", entry.text, re.DOTALL)
    source = " ".join(found[1].split()).rstrip(".") if found else "–"
    data = data_of(entry.needs)
    cells = [f"`{entry.name}`{options}", *marks, "–" if data == "nothing" else data, entry.summary.rstrip("."), source]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(catalogue())
