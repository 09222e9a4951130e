"""Blocks under other numbers: Hugging Face folders, among others, count the blocks that are left anew."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sparsify.coding.bits import equal_bits

__all__ = ["renamed", "renumbered", "same"]

Block = Mapping[str, Tensor]


def renumbered(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, str]:
    """Return which blocks of one model are which of another, where lists of blocks are shorter and were counted anew.

    A list of blocks are modules with numbers behind the same name. Blocks are known again by their values: all of a
    list, bit for bit and in the same order, or none.

    Args:
        before: parameters by name, of the model with more blocks.
        after: those of the other.

    Returns:
        By the names in `after` those in `before`, such as `encoder.layer.0` to `encoder.layer.1`; nothing of lists
        whose names are right as they are.
    """
    found: dict[str, str] = {}
    left = _lists(after)
    for name, blocks in _lists(before).items():
        kept = left.get(name, {})
        inside = any(name.startswith(f"{block}.") for block in found)
        if inside or len(kept) >= len(blocks) or all(same(kept[n], blocks.get(n, {})) for n in kept):
            continue
        numbers = _numbers(blocks, kept)
        found.update({f"{name}.{new}": f"{name}.{old}" for new, old in numbers.items()})
    return found


def renamed(name: str, blocks: Mapping[str, str]) -> str:
    """Return the name of a module or parameter when blocks are called otherwise."""
    parts = name.split(".")
    for place in range(1, len(parts) + 1):
        if (block := ".".join(parts[:place])) in blocks:
            return ".".join((blocks[block], *parts[place:]))
    return name


def same(one: Block, two: Block) -> bool:
    """Whether two modules hold the same values under the same names, bit for bit."""
    return one.keys() == two.keys() and all(equal_bits(value, two[name]) for name, value in one.items())


def _lists(parameters: Mapping[str, Tensor]) -> dict[str, dict[int, dict[str, Tensor]]]:
    """Return by the names of lists, outer ones first, and by number what each block holds, by the names in it."""
    found: dict[str, dict[int, dict[str, Tensor]]] = {}
    for name, value in parameters.items():
        parts = name.split(".")
        for place, part in enumerate(parts[:-1]):
            if place and part.isdigit():
                block = found.setdefault(".".join(parts[:place]), {}).setdefault(int(part), {})
                block[".".join(parts[place + 1 :])] = value
    return found


def _numbers(blocks: Mapping[int, Block], kept: Mapping[int, Block]) -> dict[int, int]:
    """Return for the number of every block that is left the one before; nothing if some is not there, in this order."""
    rest, found = iter(sorted(blocks)), dict[int, int]()
    for new in sorted(kept):
        old = next((number for number in rest if same(kept[new], blocks[number])), None)
        if old is None:
            return {}
        found[new] = old
    return found
