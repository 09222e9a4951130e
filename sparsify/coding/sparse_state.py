"""Sparse state: how a file holds masked and frozen weights, and how they are read again, bit for bit.

Dense: `<name>` is the whole weight, zeros or what is frozen among it, and its mask lies beside it as bits:
`<name>.bitmask` where the rest is pruned, `<name>.trained` where it is frozen. Packed: the mask, `<name>.values` that
it keeps, and `<name>.shape`, without `<name>`; frozen values that come from no seed are `<name>.base`. The mask is then
a Rice code where that is smaller than bits: the metadata says which (`rice`). The seed of all frozen values that are
drawn is `sparsify_seed`, the 32 bits of one int32; how they are drawn, the metadata says (`draws`), and which names
are further ones of a tied tensor (`aliases`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsify.coding import rice
from sparsify.coding.bits import BITMASK, packed, unpacked
from sparsify.coding.tensor_file import Part, TensorFile
from sparsify.embedding import embedded_names, folded
from sparsify.errors import InputError
from sparsify.freezing import SEED, Draw, frozen, frozen_draws
from sparsify.graph import mask_nodes
from sparsify.masking import masked
from sparsify.program import Program

__all__ = ["Chosen", "SparseState", "pruned", "sparse_parts", "state", "trained"]

TRAINED = ".trained"  # what the name of a weight ends with where a file holds the bits of what is trained of it
_DRAWS, _RICE, _ALIASES = "draws", "rice", "aliases"  # in the metadata

_VALUES, _SHAPE, _BASE = ".values", ".shape", ".base"


@dataclass(frozen=True)
class Chosen:
    """Which weights of a state dict are masked and frozen.

    Attributes:
        masks: of pruned weights, by name, True where the weight is kept.
        trained: of frozen weights, True where the weight is trained.
        draws: how frozen values are drawn, of those that are.
        seed: from what.
    """

    masks: Mapping[str, Tensor] = field(default_factory=dict)
    trained: Mapping[str, Tensor] = field(default_factory=dict)
    draws: Mapping[str, Draw] = field(default_factory=dict)
    seed: int | None = None

    def of(self, program: Program) -> Program:
        """Return a program with these masks and frozen weights; the values are there already."""
        program = masked(program, self.masks) if self.masks else program
        stored = {name: mask for name, mask in self.trained.items() if name not in self.draws}
        drawn = {name: mask for name, mask in self.trained.items() if name in self.draws}
        program = frozen(program, stored) if stored else program
        return frozen(program, drawn, self.seed, self.draws) if drawn else program


def state(program: Program) -> dict[str, Part]:
    """Return the parameters and persistent buffers of a program by name, with the values that it computes with.

    Masked weights are made when it is their turn, so that there is one of them at a time.
    """
    plain = folded(program)
    masks = plain.masks
    bits = {str(node.all_input_nodes[0].target) for node in mask_nodes(plain.graph)}
    gone = plain.transient | {name for name in bits if name in plain.buffers}
    found = {}
    for name, value in {**plain.parameters, **plain.buffers}.items():
        if name not in gone:
            made = partial(_masked, value.detach(), masks[name]) if name in masks else value.detach
            found[name] = Part(name, value.dtype, tuple(value.shape), made)
    return found


def pruned(program: Program) -> Mapping[str, Tensor]:
    """Return the masks of the weights that a file has; masks of what embedded ones are made of are not among them."""
    return folded(program).masks


def trained(program: Program) -> Mapping[str, Tensor]:
    """Return the masks of the frozen weights that a file has."""
    return {name: program.frozen[name] for name in embedded_names(program) if name in program.frozen}


def _masked(value: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, value, 0.0).to(value.dtype)


def sparse_parts(program: Program, *, pack: bool) -> tuple[list[Part], dict[str, Any]]:
    """Return the tensors of a file, and what its metadata must say.

    Args:
        program: any program.
        pack: leave out what masks do not keep.
    """
    plain, draws = folded(program), frozen_draws(program)
    whole = state(plain)
    parts, told = dict(whole), dict[str, Any]()
    marks = [(name, BITMASK, mask) for name, mask in pruned(plain).items()]
    for name, end, mask in [*marks, *((name, TRAINED, mask) for name, mask in trained(program).items())]:
        if not pack:
            parts[name + end] = Part.of(name + end, packed(mask.cpu()))
            continue
        part, kept = parts.pop(name), int(mask.sum())
        more = [
            _mask(name + end, mask, told),
            Part(name + _VALUES, part.dtype, (kept,), partial(_chosen, part, mask)),
            Part.of(name + _SHAPE, torch.tensor(mask.shape, dtype=torch.int64)),
        ]
        if end == TRAINED and name not in draws:
            more.append(Part(name + _BASE, part.dtype, (mask.numel() - kept,), partial(_chosen, part, ~mask)))
        parts.update((item.name, item) for item in more)
    if draws:
        seed = int(program.buffers[SEED])
        parts[SEED] = Part.of(SEED, torch.tensor(seed - (seed >> 31 << 32), dtype=torch.int32))
        told[_DRAWS] = {name: [draw.distribution, draw.scale] for name, draw in draws.items()}
    if aliases := {alias: name for alias, name in program.aliases.items() if name in whole}:
        told[_ALIASES] = aliases
    return list(parts.values()), told


def _mask(name: str, mask: Tensor, told: dict[str, Any]) -> Part:
    """Return the smaller form of a mask, and say which that is."""
    bits = packed(mask.cpu())
    k, code = rice.coded(mask)
    if len(code) >= len(bits):
        return Part.of(name, bits)
    told.setdefault(_RICE, {})[name] = k
    return Part.of(name, code)


def _chosen(part: Part, mask: Tensor) -> Tensor:
    return part.make()[mask]


class SparseState(Mapping[str, Tensor]):
    """The whole weights of what a file holds by name, made when they are asked for; `chosen` says which are sparse.

    Args:
        held: the tensors of the file, as it holds them.
        path: of the file, for messages.

    Raises:
        InputError: a mask does not fit its weight, or something is lacking.
    """

    def __init__(self, held: Mapping[str, Tensor], path: Path) -> None:
        self._held, self._path = held, path
        self._told: Mapping[str, Any] = held.told if isinstance(held, TensorFile) else {}
        marks = {name: end for name in held for end in (BITMASK, TRAINED) if name.endswith(end)}
        names = {name.removesuffix(end): end for name, end in marks.items()}
        beside = {f"{name}{end}" for name in names for end in (BITMASK, TRAINED, _VALUES, _SHAPE, _BASE)}
        seeded = bool(names) and SEED in held
        self._names = [name for name in held if name not in beside and not (seeded and name == SEED)]
        self._names += [name for name in names if name not in held]
        self._aliases: dict[str, str] = {
            alias: name for alias, name in self._told.get(_ALIASES, {}).items() if alias not in held
        }
        if lacking := [name for name in self._aliases.values() if name not in self._names]:
            raise self._damaged(f"it says that {lacking[0]} has other names, and does not hold it")
        found: dict[str, dict[str, Tensor]] = {BITMASK: {}, TRAINED: {}}
        for name, end in names.items():
            found[end][name] = self._mask(name, end)
        draws = {name: draw for name, draw in self._draws().items() if name in found[TRAINED]} if seeded else {}
        seed = int(held[SEED]) & 0xFFFFFFFF if seeded else None
        self.chosen = Chosen(found[BITMASK], found[TRAINED], draws, seed)
        for name in self._names:
            self._check(name)

    def __iter__(self) -> Iterator[str]:
        yield from self._names
        yield from self._aliases

    def __len__(self) -> int:
        return len(self._names) + len(self._aliases)

    def __getitem__(self, name: str) -> Tensor:
        return self.read(name)

    def read(self, name: str, into: Tensor | None = None) -> Tensor:
        """Return a weight, in the memory of another tensor if that has its type and shape.

        Raises:
            InputError: the file is damaged.
        """
        name = self._aliases.get(name, name)
        if name in self._held:
            value = self._held[name]
            return into.copy_(value) if into is not None and _fits(into, value.dtype, value.shape) else value
        mask = self._mark(name)
        values, others = self._held[f"{name}{_VALUES}"], self._held.get(f"{name}{_BASE}")
        if into is None or not _fits(into, values.dtype, mask.shape):
            into = torch.empty(mask.shape, dtype=values.dtype)
        if name in self.chosen.draws:
            into.copy_(self.chosen.draws[name](torch.tensor(self.chosen.seed), name, into))
        elif others is not None:
            into[~mask] = others
        else:
            into.zero_()
        into[mask] = values
        return into

    def dense(self) -> tuple[list[Part], dict[str, Any]]:
        """Return what `sparse_parts` gives of the program without packing."""
        parts = []
        for name in self._names:
            dtype, shape = self._kind(name if name in self._held else name + _VALUES)
            shape = shape if name in self._held else list(self._mark(name).shape)
            parts.append(Part(name, dtype, shape, partial(self.read, name)))
        for end, masks in ((BITMASK, self.chosen.masks), (TRAINED, self.chosen.trained)):
            parts.extend(Part.of(name + end, packed(mask)) for name, mask in masks.items())
        if self.chosen.seed is not None:
            parts.append(Part.of(SEED, self._held[SEED]))
        return parts, {key: value for key, value in self._told.items() if key != _RICE}

    def _mask(self, name: str, end: str) -> Tensor:
        held, k = self._held, self._told.get(_RICE, {}).get(f"{name}{end}")
        if name in held:
            shape = self._shape(name)
        elif f"{name}{_VALUES}" in held and f"{name}{_SHAPE}" in held:
            shape = held[f"{name}{_SHAPE}"].tolist()
        else:
            raise self._damaged(f"it holds the mask of {name}, but not {name}")
        try:
            if k is None:
                return unpacked(held[f"{name}{end}"], shape)
            return rice.decoded(held[f"{name}{end}"], int(k), self._shape(f"{name}{_VALUES}")[0], shape)
        except (ValueError, TypeError, LookupError) as error:
            raise self._damaged(f"the mask of {name} does not fit it: {error}") from error

    def _check(self, name: str) -> None:
        """See that the parts of a weight fit its mask."""
        if name in self._held:
            return
        mask = self._mark(name)
        values, kept, based = self._shape(f"{name}{_VALUES}"), int(mask.sum()), f"{name}{_BASE}" in self._held
        if values != [kept] or (based and self._shape(f"{name}{_BASE}") != [mask.numel() - kept]):
            raise self._damaged(f"the mask of {name} does not fit its {values[0]} values")
        if name in self.chosen.trained and not based and name not in self.chosen.draws:
            raise self._damaged(f"nothing says what the frozen values of {name} are")

    def _kind(self, name: str) -> tuple[torch.dtype, list[int]]:
        held = self._held
        return held.kind(name) if isinstance(held, TensorFile) else (held[name].dtype, list(held[name].shape))

    def _shape(self, name: str) -> list[int]:
        return self._kind(name)[1]

    def _mark(self, name: str) -> Tensor:
        """Return the mask of a weight that has one."""
        return self.chosen.masks[name] if name in self.chosen.masks else self.chosen.trained[name]

    def _draws(self) -> dict[str, Draw]:
        """Return how values are drawn."""
        try:
            known = self._told.get(_DRAWS, {})
            return {str(name): Draw(str(kind), float(scale)) for name, (kind, scale) in known.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise self._damaged(f"its metadata does not say how values are drawn ({error})") from error

    def _damaged(self, what: str) -> InputError:
        return InputError(f"{self._path} is damaged: {what}.")


def _fits(into: Tensor, dtype: torch.dtype, shape: Sequence[int]) -> bool:
    alike = (into.dtype, list(into.shape)) == (dtype, list(shape))
    return alike and into.is_contiguous() and into.device.type == "cpu"
