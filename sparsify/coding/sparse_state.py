"""Sparse state: how a file holds masked and frozen weights, and how they are read again, bit for bit.

Dense: `<name>` is the whole weight, zeros or what is frozen among it, and its mask lies beside it as bits:
`<name>.bitmask` where the rest is pruned, `<name>.trained` where it is frozen. Packed: the bits, `<name>.values` that
the mask keeps, and `<name>.shape`, without `<name>`; frozen values that come from no seed are `<name>.base`. The seed
of all others is `sparsify_seed`, the 32 bits of one int32; how they are drawn from it, the metadata says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from sparsify.coding.bits import BITMASK, packed, unpacked
from sparsify.embedding import embedded_names, folded
from sparsify.errors import InputError
from sparsify.freezing import SEED, Draw, frozen, frozen_draws
from sparsify.masking import baked, masked
from sparsify.program import Program

__all__ = ["Chosen", "Storage", "sparse_state", "split"]

Storage: TypeAlias = Literal["dense", "packed"]

TRAINED = ".trained"  # what the name of a weight ends with where a file holds the bits of what is trained of it
_DRAWS = "draws"  # in the metadata: by name the distribution and the scale

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


def sparse_state(program: Program, storage: Storage) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file by their names, and what its metadata must say."""
    plain = baked(folded(program))
    values = {**plain.parameters, **plain.buffers}
    tensors = {name: value.detach() for name, value in values.items() if name not in plain.transient}
    draws, masks = frozen_draws(program), program.masks
    trained = {name: program.frozen[name] for name in embedded_names(program) if name in program.frozen}
    for name, mask in masks.items():
        tensors[name + BITMASK] = packed(mask)
    for name, mask in trained.items():
        tensors[name + TRAINED] = packed(mask)
    if storage == "packed":
        for name, mask in {**masks, **trained}.items():
            whole = tensors.pop(name)
            tensors[name + _VALUES], tensors[name + _SHAPE] = whole[mask], torch.tensor(whole.shape)
            if name in trained and name not in draws:
                tensors[name + _BASE] = whole[~mask]
    if draws:
        seed = int(program.buffers[SEED])
        tensors[SEED] = torch.tensor(seed - (seed >> 31 << 32), dtype=torch.int32)
    described = {name: [draw.distribution, draw.scale] for name, draw in draws.items()}
    return tensors, {_DRAWS: described} if described else {}


def split(state: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], Chosen]:
    """Divide what a file holds into the state dict of the model, with whole weights, and what is chosen of them.

    Raises:
        InputError: a mask does not fit its weight, or something is lacking.
    """
    marks = {name: end for name in state for end in (BITMASK, TRAINED) if name.endswith(end)}
    if not marks:
        return dict(state), Chosen()
    names = {name.removesuffix(end): end for name, end in marks.items()}
    beside = {f"{name}{end}" for name in names for end in (BITMASK, TRAINED, _VALUES, _SHAPE, _BASE)}
    rest = {name: value for name, value in state.items() if name not in beside and name != SEED}
    draws = _draws(path) if SEED in state else {}
    seed = int(state[SEED]) & 0xFFFFFFFF if SEED in state else None
    found: dict[str, dict[str, Tensor]] = {BITMASK: {}, TRAINED: {}}
    for name, end in names.items():
        mask = _mask(state, name, end, path)
        found[end][name] = mask
        if name not in rest:
            draw = draws.get(name) if end == TRAINED else None
            given = None if draw is None else partial(draw, torch.tensor(seed), name)
            rest[name] = _whole(state, name, mask, given, path)
    return rest, Chosen(found[BITMASK], found[TRAINED], {n: d for n, d in draws.items() if n in names}, seed)


def _mask(state: Mapping[str, Tensor], name: str, end: str, path: Path) -> Tensor:
    if name in state:
        shape = list(state[name].shape)
    elif f"{name}{_VALUES}" in state and f"{name}{_SHAPE}" in state:
        shape = state[f"{name}{_SHAPE}"].tolist()
    else:
        raise InputError(f"{path} is damaged: it holds the mask of {name}, but not {name}.")
    try:
        return unpacked(state[f"{name}{end}"], shape)
    except ValueError as error:
        raise InputError(f"{path} is damaged: the mask of {name} does not fit it: {error}.") from error


def _whole(
    state: Mapping[str, Tensor], name: str, mask: Tensor, given: Callable[[Tensor], Tensor] | None, path: Path
) -> Tensor:
    """Return a weight with zeros, or what is frozen, in the places that its mask leaves out."""
    values = state[f"{name}{_VALUES}"]
    whole = torch.zeros(mask.shape, dtype=values.dtype)
    others = state.get(f"{name}{_BASE}")
    if len(values) != int(mask.sum()) or (others is not None and len(others) != int((~mask).sum())):
        raise InputError(f"{path} is damaged: the mask of {name} does not fit its {len(values)} values.")
    if f"{name}{TRAINED}" in state and others is None and given is None:
        raise InputError(f"{path} is damaged: nothing says what the frozen values of {name} are.")
    if given is not None:
        whole = given(whole)
    elif others is not None:
        whole[~mask] = others
    whole[mask] = values
    return whole


def _draws(path: Path) -> dict[str, Draw]:
    """Read from the metadata of a `.safetensors` file how values are drawn."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get("sparsify", "{}")
    try:
        known = json.loads(text).get(_DRAWS, {})
        return {str(name): Draw(str(kind), float(scale)) for name, (kind, scale) in known.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged: its metadata does not say how values are drawn ({error}).") from error
