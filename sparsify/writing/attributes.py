"""Attributes: the sizes that modules remember beside their parameters, and what they become when those shrink.

What an attribute of a module or of a configuration means is guessed: it is a size that occurs in the parameters below
it, and its name says which of them (`num_heads`, `head_dim`). Where several fit, or the name says nothing, there is a
choice, and whoever changes the model tries the options. Modules of torch.nn are no matter of guessing; their attributes
are in `sparsify.writing.torch_attributes`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsify.writing.module_state import Edits
from sparsify.writing.new_sizes import NewSizes, Size
from sparsify.writing.torch_attributes import exact_attributes

__all__ = ["Choice", "Slot", "choices"]

Kinds = frozenset[str]
_WIDTH: Kinds = frozenset({"heads", "kv-groups", "head-dim"})
_MEANINGS: tuple[tuple[str, tuple[Kinds, ...] | None], ...] = (
    (r"(kv|key_value)_?heads?$", (frozenset({"kv-groups"}), frozenset({"heads"}))),
    (r"(kv|key_value|query)_?groups?$|^n_?rep$|per_kv", (frozenset({"heads"}),)),
    (r"heads?$", (frozenset({"heads", "kv-groups"}),)),
    (r"head_(dim|size|width)|dim_(per_)?head|^d_(k|v|kv|head)$|key_value_proj_dim", (frozenset({"head-dim"}),)),
    (r"experts?$", (frozenset({"experts"}),)),
    (r"groups?$", (frozenset({"conv-groups"}), frozenset({"stream", "channels"}))),
    (r"all_head_size|split_size|qkv?_(dim|size)|att(entio)?n_(dim|size)", (_WIDTH,)),
    (r"inner_(dim|size)", (_WIDTH, frozenset({"channels"}))),
    (
        r"rank$|(^|_)(intermediate|ffn?|mlp|n?_?inner|feedforward)(_|$)",
        (frozenset({"channels"}), frozenset({"stream"})),
    ),
    (  # numbers that no parameter has as its size, or only by chance
        r"(^|_)(idx|index|ids?|layers?|depths?|tokens?|vocab|positions?|ctx|len(gth)?|max|min|window|patch|kernel|strides?"
        r"|pad(ding)?|dilation|steps?|top|k|tok|version|seed|labels?|classes|image|blocks?|shift|buckets|distance|beams?"
        r"|resolution|batch|stages?|epochs?|bits)(_|$)",
        None,
    ),
    (
        r"(hidden|embed(ding)?|embd|model|dim|width|channels?|features?|planes|filters|size|nf|nx|shape)s?$",
        (frozenset({"stream"}), frozenset({"channels"}), _WIDTH),
    ),
)
"""Patterns of names, and the kinds of indices that the number counts, the likeliest first; the first match counts."""

_MOST = 6  # options of a choice


@dataclass(frozen=True)
class Slot:
    """An integer in an attribute.

    Attributes:
        holder: the `__dict__` of a module or of a configuration.
        key: the attribute.
        index: where it is, if the attribute is a list or tuple.
        value: what it is.
    """

    holder: MutableMapping[str, Any]
    key: str
    index: int | None
    value: int

    def write(self, edits: Edits, value: int) -> None:
        """Change it; a list or tuple becomes another one."""
        old = self.holder[self.key]
        new: Any = value
        if self.index is not None:
            new = type(old)([*old[: self.index], value, *old[self.index + 1 :]])
        if new != old:
            edits.put(self.holder, self.key, new)


@dataclass(frozen=True)
class Choice:
    """What an attribute may become, in all modules of a class that have the same value for it.

    Attributes:
        slots: where it is.
        options: for each possibility a value for every slot, the likeliest first.
        modules: the modules that have the attribute.
        shared: it belongs to a configuration.
    """

    slots: tuple[Slot, ...]
    options: tuple[tuple[int, ...], ...]
    modules: tuple[nn.Module, ...]
    shared: bool = False

    def write(self, edits: Edits, option: int) -> None:
        """Choose an option."""
        for slot, value in zip(self.slots, self.options[option], strict=True):
            slot.write(edits, value)


def choices(model: nn.Module, sizes: NewSizes) -> list[Choice]:
    """Return the attributes of a model that may have to change; those without an alternative have one option.

    Args:
        model: with the attributes of its old sizes.
        sizes: old and new.
    """
    together: dict[Any, list[tuple[Slot, nn.Module, list[tuple[Any, int]]]]] = defaultdict(list)
    for path, module in model.named_modules():
        for slot in _slots_of(module):
            ranked = _ranked(slot, list(_below(path, sizes, slot.value)))
            together[type(module), slot.key, slot.index, slot.value].append((slot, module, ranked))
    found = [_together(members) for members in together.values()]
    found.extend(_of_configurations(model, sizes))
    return [choice for choice in found if choice.options != (tuple(slot.value for slot in choice.slots),)]


def _together(members: list[tuple[Slot, nn.Module, list[tuple[Any, int]]]]) -> Choice:
    """Choose the same place of the parameters for all modules of a class."""
    places = list(dict.fromkeys(place for _, _, ranked in members for place, _ in ranked))
    options = dict.fromkeys(
        tuple(dict(reversed(ranked)).get(place, ranked[0][1]) for _, _, ranked in members) for place in places
    )
    slots, modules, _ = zip(*members, strict=True)
    return Choice(slots, tuple(options)[:_MOST], modules)


def _below(path: str, sizes: NewSizes, value: int) -> Iterator[tuple[int, str, Size]]:
    """Yield the sizes in the parameters of a module and below it: how deep, where, and what."""
    prefix = f"{path}." if path else ""
    if not any(name.startswith(prefix) for name in sizes.names):  # its neighbours' parameters
        prefix = f"{path.rpartition('.')[0]}." if "." in path else ""
    for name in sizes.names:
        if name.startswith(prefix):
            for size in sizes.inside(name):
                if size.old == value:
                    yield name.count(".", len(prefix)), name[len(prefix) :], size


def _meaning(name: str) -> tuple[Kinds, ...] | None:
    """Return the kinds that the name of an attribute speaks of; None if its number is the size of no parameter."""
    lowered = name.lower().strip("_")
    return next((kinds for pattern, kinds in _MEANINGS if re.search(pattern, lowered)), ())


def _match(size: Size, wanted: Iterable[Kinds]) -> int | None:
    return next((rank for rank, kinds in enumerate(wanted) if size.kinds <= kinds), None)


def _ranked(slot: Slot, below: list[tuple[int, str, Size]]) -> list[tuple[Any, int]]:
    """Return what an attribute may become, by place: what its name says, what it is, and what has its size."""
    wanted = _meaning(slot.key) or ()
    fitting, others = [], []
    for depth, name, size in below:
        rank = _match(size, wanted)
        place = ((name, size.place), size.new)
        if rank is None:
            others.append((depth, place))
        else:
            fitting.append(((rank, depth), place))
    fitting.sort(key=lambda item: item[0])
    others.sort(key=lambda item: item[0])
    return [*(place for _, place in fitting), (None, slot.value), *(place for _, place in others)]


def _slots_of(module: nn.Module) -> Iterator[Slot]:
    kind = type(module)
    if kind.__module__.startswith("torch.") and not (names := _guessed(module)):
        return
    known = exact_attributes(module, lambda name, dim, old: old)
    for slot in _slots(vars(module)):
        if slot.key in known or (kind.__module__.startswith("torch.") and slot.key not in names):
            continue
        yield slot


def _guessed(module: nn.Module) -> tuple[str, ...]:
    """Return the attributes of a module of torch that no parameter tells of."""
    if isinstance(module, nn.Unflatten):
        return ("unflattened_size",)
    if isinstance(module, nn.ChannelShuffle):
        return ("groups",)
    return ("normalized_shape", "num_features", "num_channels", "num_groups") if not list(module.parameters()) else ()


def _slots(holder: MutableMapping[str, Any]) -> Iterator[Slot]:
    for key, value in list(holder.items()):
        if _meaning(key) is None or key.startswith("_"):
            continue
        if type(value) is int and value > 1:
            yield Slot(holder, key, None, value)
        elif type(value) in (list, tuple, torch.Size) and value and all(type(item) is int for item in value):
            yield from (Slot(holder, key, index, item) for index, item in enumerate(value) if item > 1)


def _of_configurations(model: nn.Module, sizes: NewSizes) -> Iterator[Choice]:
    """Yield choices for configurations, which change first of all where all that a number may mean agree."""
    for configuration, holders in _configurations(model).values():
        modules = tuple(module for _, module in holders)
        for slot in _slots(vars(configuration)):
            below = [found for path, _ in _outermost(holders) for found in _below(path, sizes, slot.value)]
            part = slot.key.partition("_")[0]
            if part in ("encoder", "decoder"):
                below = [found for found in below if part in found[1].split(".")]
            wanted = _meaning(slot.key) or ()
            ranks = [rank for _, _, size in below if (rank := _match(size, wanted)) is not None]
            fitting = Counter(size.new for _, _, size in below if ranks and _match(size, wanted) == min(ranks))
            others = dict.fromkeys(value for _, value in _ranked(slot, below))
            first = list(fitting) if len(fitting) == 1 else [slot.value, *fitting]
            options = tuple((value,) for value in dict.fromkeys([*first, slot.value, *others]))
            yield Choice((slot,), options[:_MOST], modules, shared=True)


def _configurations(model: nn.Module) -> dict[int, tuple[Any, list[tuple[str, nn.Module]]]]:
    """Return the objects that modules read settings from, each with the modules that hold it."""
    found: dict[int, tuple[Any, list[tuple[str, nn.Module]]]] = {}
    for path, module in model.named_modules():
        for key, value in vars(module).items():
            if "generation" in key:  # transformers: no sizes of the model
                continue
            named = re.search(r"(config|cfg|args|params|opts?|options)$", key.lower().lstrip("_"))
            plain = (
                hasattr(value, "__dict__") and not isinstance(value, (nn.Module, Tensor, type)) and not callable(value)
            )
            if plain and (named or re.search("Config|Args", type(value).__name__)):
                found.setdefault(id(value), (value, []))[1].append((path, module))
    return found


def _outermost(holders: list[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
    paths = [path for path, _ in holders]
    return [(p, m) for p, m in holders if not any(p != q and (q == "" or p.startswith(f"{q}.")) for q in paths)]
