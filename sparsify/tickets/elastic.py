"""Elastic tickets: which parameter of a ticket a parameter of a deeper, shallower or otherwise headed network takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Literal, TypeAlias, cast

from sparsify.errors import PassError

__all__ = ["Stretch", "matched"]

Stretch: TypeAlias = Literal["no", "append", "interpolate"]
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

_Tree: TypeAlias = "dict[str, _Tree | tuple[int, ...]]"


def matched(source: Shapes, target: Shapes, stretch: Stretch) -> dict[str, str]:
    """Return for the parameters of a network the parameter of the ticket's network that each corresponds to.

    A parameter corresponds to that of its name, if it has its shape. With `stretch`, the numbered modules of a list
    (`layer2.0`, `layer2.1`, ...) are gathered into stages, runs of modules whose parameters have the same names and
    shapes, and stages correspond in their order: the module j of m in a stage to module j mod n of the ticket's n
    (append: copies follow behind the last; where m < n the last ones are dropped), or to module ⌊j n / m⌋
    (interpolate: copies follow what they are copies of; where m < n every so many are dropped). A network
    may lack a stage of the ticket's behind another one, as where nothing follows the block that changes the shape.

    Args:
        source: shapes of the ticket's parameters.
        target: shapes of the network's.
        stretch: how lists of other lengths correspond.

    Raises:
        PassError: lists of modules have other stages: the networks are not of one family.

    Reference: Chen et al., "The Elastic Lottery Ticket Hypothesis", 2021.
    """
    if stretch == "no":
        return {name: name for name, shape in target.items() if source.get(name) == shape}
    found: dict[str, str] = {}
    _match(_tree(source), _tree(target), stretch, ("", ""), found)
    return found


def _tree(shapes: Shapes) -> _Tree:
    """Return modules in modules, with the shapes of parameters as leaves."""
    root: _Tree = {}
    for name, shape in shapes.items():
        *path, last = name.split(".")
        place = root
        for part in path:
            place = cast(_Tree, place.setdefault(part, {}))
        place[last] = shape
    return root


def _match(source: _Tree, target: _Tree, stretch: Stretch, at: tuple[str, str], found: dict[str, str]) -> None:
    """Match what is in two modules, called `at` in the ticket and in the network."""
    pairs = {name: name for name in target if name in source}
    if _is_list(source) and _is_list(target) and source != target:
        stretched = _stretched(source, target, stretch)
        if stretched is None and source.keys() != target.keys():
            raise PassError(_refusal(source, target, at[1].rstrip(".") or "the model"))
        pairs = pairs if stretched is None else stretched
    for name, other in pairs.items():
        one, two = source[other], target[name]
        if isinstance(one, dict) and isinstance(two, dict):
            _match(one, two, stretch, (f"{at[0]}{other}.", f"{at[1]}{name}."), found)
        elif one == two:
            found[f"{at[1]}{name}"] = f"{at[0]}{other}"


def _is_list(tree: _Tree) -> bool:
    return bool(tree) and all(name.isdigit() and isinstance(value, dict) for name, value in tree.items())


def _runs(tree: _Tree) -> list[tuple[object, list[str]]]:
    """Return the stages of a list of modules: what each module is, and the names of the modules."""
    ordered = sorted(tree, key=int)
    return [(kind, list(names)) for kind, names in groupby(ordered, key=tree.__getitem__)]


def _stages(tree: _Tree) -> str:
    return " + ".join(str(len(names)) for _, names in _runs(tree))


def _refusal(source: _Tree, target: _Tree, where: str) -> str:
    if _within(_runs(source), _runs(target)) is not None:
        return (
            f"The ticket cannot be stretched: {where} has blocks of a kind of which the ticket's network has none "
            f"({_stages(target)} of each kind here, {_stages(source)} there), such as those behind a block that "
            "changes the shape: there is nothing to copy. Take a ticket of a network with one more block in each stage."
        )
    return (
        f"The ticket cannot be stretched: the modules of {where} have other stages ({_stages(target)}) than those of "
        f"the ticket ({_stages(source)}). Only networks of one family, with the same kinds of blocks in the same "
        "order, have elastic tickets."
    )


def _within(
    few: Sequence[tuple[object, list[str]]], many: Sequence[tuple[object, list[str]]]
) -> list[tuple[list[str], list[str]]] | None:
    """Return the stages of two lists that are of the same kind, if the second has all of the first.

    Behind each it may have one more: equal blocks behind one that changes the shape, where the first has that alone.
    """
    pairs, place = list[tuple[list[str], list[str]]](), 0
    skipped = True  # nothing is left out before the first
    for kind, names in many:
        if place < len(few) and few[place][0] == kind:
            pairs.append((few[place][1], names))
            place, skipped = place + 1, False
        elif skipped:
            return None
        else:
            skipped = True
    return pairs if place == len(few) else None


def _stretched(source: _Tree, target: _Tree, stretch: Stretch) -> dict[str, str] | None:
    """Return for every module of a list that of the ticket, or None where the stages differ."""
    found = _within(_runs(target), _runs(source))
    if found is None:
        return None
    pairs = {}
    for names, others in found:
        for place, name in enumerate(names):
            one = place % len(others) if stretch == "append" else place * len(others) // len(names)
            pairs[name] = others[one]
    return pairs
