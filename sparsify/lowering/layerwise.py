"""What the passes that lower have in common: which layers they take, and what a report says of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from sparsify.errors import PassError
from sparsify.formats import Format
from sparsify.lowering.raising import sparse_layers
from sparsify.lowering.rewriting import lowered
from sparsify.lowering.sites import Site, sites
from sparsify.naming import plural
from sparsify.program import Program
from sparsify.pruning.candidates import check_patterns, matches

__all__ = ["chosen_sites", "described", "lower", "nothing_to_lower"]


def lower(
    program: Program,
    record: dict[str, Any],
    encode: Callable[[Tensor, Tensor], Format | str],
    *,
    only: Sequence[str],
    protect: Sequence[str],
) -> Program:
    """Lower all masked layers that can be; note in a record what became of each.

    Args:
        program: with masks.
        record: takes `lowered`, by weight its `density` and `bytes` before and after, `skipped` with reasons, and all
            of it in a few words as `done`.
        encode: makes the format of a matrix `[N, K]` and its mask, or says why it has none.
        only: names or patterns of modules and parameters; others are left out.
        protect: names or patterns of those that stay.

    Raises:
        PassError: nothing can be lowered, or a pattern matches no parameter.
    """
    formats: dict[Site, Format] = {}
    known, skipped = chosen_sites(program, only, protect)
    record["lowered"], record["skipped"] = {}, skipped
    for site in known:
        weight, mask = program.parameters[site.name].detach(), program.masks[site.name]
        found = encode(site.matrix(weight), site.matrix(mask))
        if isinstance(found, str):
            skipped[site.name] = found
            continue
        formats[site] = found
        record["lowered"][site.name] = described(weight, mask, found)
    if not formats:
        raise nothing_to_lower(program, skipped)
    before = sum(program.parameters[site.name].nbytes for site in formats)
    after = sum(found.nbytes for found in formats.values())
    left = f"{len(skipped)} left: {'; '.join(f'{name}, {why}' for name, why in list(skipped.items())[:2])}"
    more = f"; and {len(skipped) - 2} more" if len(skipped) > 2 else ""
    record["done"] = f"{plural(len(formats), 'layer')}, {before:,} -> {after:,} bytes"
    if skipped:
        record["done"] += f" ({left}{more})"
    return lowered(program, formats)


def chosen_sites(
    program: Program, only: Sequence[str], protect: Sequence[str], *, patches: bool = False
) -> tuple[list[Site], dict[str, str]]:
    """Return the sites that may be lowered, and by name why others may not.

    Raises:
        PassError: a pattern matches no parameter.
    """
    check_patterns("only", only, program)
    check_patterns("protect", protect, program)
    known, skipped = [], {}
    for site in sites(program, patches=patches):
        reason = site.reason
        if matches(site.name, protect) or (only and not matches(site.name, only)):
            reason = "it is protected" if matches(site.name, protect) else "it is not among only="
        if reason:
            skipped[site.name] = reason
        else:
            known.append(site)
    return known, skipped


def described(weight: Tensor, mask: Tensor, found: Format) -> dict[str, Any]:
    """Return what a report says of a lowered weight."""
    return {"density": round(float(mask.float().mean()), 6), "bytes": f"{weight.nbytes} -> {found.nbytes}"}


def nothing_to_lower(program: Program, skipped: dict[str, str]) -> PassError:
    """Return the error that says why there is nothing."""
    if not skipped and sparse_layers(program):
        return PassError("Its layers are lowered already, and no other weight has a mask: nothing is left to lower.")
    reasons = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:3])
    return PassError(
        "There is no masked linear layer to lower "
        + (f"({reasons})." if reasons else "(no weight has a mask: a pass such as weight-prune makes them).")
    )
