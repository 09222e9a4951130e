"""What can be pruned in every network of the zoo, and why the rest cannot: writes docs/families.md.

Run: python benchmarks/families.py
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from helpers.zoo import FAMILIES, NETWORKS  # noqa: E402

import sparsify as sp  # noqa: E402
from sparsify.axes import axes  # noqa: E402
from sparsify.axes.axis import leaves  # noqa: E402
from sparsify.groups import groups_of  # noqa: E402

HEAD = """# What can be pruned, family by family

Small configurations with random weights, as in `tests/helpers/zoo.py`; made by `benchmarks/families.py`. A weight is
prunable if at least one of its dimensions is free. *Removed at once*: kinds of groups in which masking is not
removing, because something counts their indices. Inputs and outputs keep their sizes everywhere and are not listed.

| network | parameters | prunable | free groups | removed at once | what else is frozen, and why |
|---|---|---|---|---|---|
"""
BOUNDARY = ("an input has it", "an output has it")


def row(name: str) -> str:
    """Return one line of the table."""
    model, args, kwargs = {**FAMILIES, **NETWORKS}[name]()
    found = axes(sp.capture(model, args, kwargs))
    groups = groups_of(found)
    state = found.program.parameters
    nodes = {str(node.target): dims for node, dims in found.dims.items() if node.op == "get_attr"}
    free = sum(
        value.numel()
        for key, value in state.items()
        if any(not leaf.frozen for axis in nodes[key] for leaf in leaves(axis))
    )
    total = sum(value.numel() for value in state.values())
    kinds = Counter(group.kind for group in groups if not group.frozen)
    at_once = sorted({group.kind for group in groups if not group.frozen and not group.exact})
    reasons = Counter(group.reason for group in groups if group.frozen and group.reason not in BOUNDARY)
    return (
        f"| {name} | {total:,} | {free / total:.1%} | {', '.join(f'{n} {kind}' for kind, n in kinds.items())} "
        f"| {', '.join(at_once) or '-'} | {'; '.join(f'{reason} ({n})' for reason, n in reasons.items()) or '-'} |"
    )


def main() -> None:
    """Write the table."""
    lines = [row(name) for name in (*FAMILIES, *NETWORKS)]
    (ROOT / "docs" / "families.md").write_text(HEAD + "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
