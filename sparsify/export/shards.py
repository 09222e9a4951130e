"""Shards: the weights of a model of transformers as `save_pretrained` writes them, a tensor in memory at a time.

Some models have other tensors in memory than in their files, such as all experts of a layer in one. Their conversions
are tried without memory, to see how few tensors each can be given at once: one, those of a layer, or all.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsify.coding.tensor_file import Part, write_plain
from sparsify.loading.hugging_face import needed

__all__ = ["LARGEST", "write_shards"]

LARGEST = 5_000_000_000  # bytes of a file, unless one tensor alone is larger

_Group = tuple[str, ...]


def write_shards(model: Any, parts: Mapping[str, Part], folder: Path, largest: int = LARGEST) -> None:
    """Write `model.safetensors`, or several files and their index, in a folder.

    Args:
        model: of transformers, on the meta device, with the types and ties that the files should have.
        parts: its state by the model's own names; each is made when it is written.
        folder: where.
        largest: bytes of a file.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    named = _published(model, parts)
    whole = {name: _empty(part) for name, part in named.items()}
    split = split_torch_state_dict_into_shards(
        whole, filename_pattern="model{suffix}.safetensors", max_shard_size=largest
    )
    for file, names in split.filename_to_tensors.items():
        write_plain(folder / file, [named[name] for name in names], {"format": "pt"})
    if split.is_sharded:
        told = {"total_parameters": model.num_parameters(), **split.metadata}
        index = json.dumps({"metadata": told, "weight_map": split.tensor_to_filename}, indent=2, sort_keys=True)
        (folder / "model.safetensors.index.json").write_text(index + "\n", encoding="utf-8")


def _published(model: Any, parts: Mapping[str, Part]) -> dict[str, Part]:
    """Return the tensors of the files, by the names that published files of the model have."""
    modeling = needed().modeling_utils
    ignored = model._keys_to_ignore_on_save or ()
    state = {name: _empty(part) for name, part in parts.items() if name not in ignored}
    state = modeling.remove_tied_weights_from_state_dict(state, model)
    wanted = _converted(model, state)

    @lru_cache(maxsize=1)
    def made(group: _Group) -> dict[str, Tensor]:
        return _converted(model, {name: parts[name].make() for name in group})

    def make(group: _Group, name: str) -> Tensor:
        return made(group)[name]

    origin = _origins(model, state, wanted)
    return {
        name: Part(name, value.dtype, tuple(value.shape), partial(make, origin[name], name))
        for name, value in wanted.items()
    }


def _origins(model: Any, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, _Group]:
    """Return for every tensor of the files the fewest tensors of the model that it can be made of."""
    kinds = {name: _kind(value) for name, value in wanted.items()}
    for groups in _groupings(list(state)):
        found: dict[str, _Group] = {}
        given: dict[str, Any] = {}
        for group in groups:
            try:
                some = _converted(model, {name: state[name] for name in group})
            except Exception:  # noqa: BLE001 -- whatever the conversion raises: it needs others, too
                break
            found.update(dict.fromkeys(some, group))
            given.update((name, _kind(value)) for name, value in some.items())
        if given == kinds:
            return found
    raise AssertionError("a conversion of all tensors differs from itself")


def _groupings(names: Sequence[str]) -> Iterator[list[_Group]]:
    """Yield the names each by itself, those of a layer together, and all together."""
    yield [(name,) for name in names]
    layers = defaultdict(list)
    for name in names:
        found = re.match(r".*?\.\d+\.", name)
        layers[found[0] if found else name].append(name)
    yield [tuple(group) for group in layers.values()]
    yield [tuple(names)]


def _converted(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as the files of a model have them."""
    from transformers.core_model_loading import revert_weight_conversion

    found: dict[str, Tensor] = revert_weight_conversion(model, state)
    return found


def _kind(value: Tensor) -> tuple[torch.dtype, torch.Size]:
    return value.dtype, value.shape


def _empty(part: Part) -> Tensor:
    return torch.empty(tuple(part.shape), dtype=part.dtype, device="meta")
