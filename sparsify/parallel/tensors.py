"""Tensors of which every rank has a shard, and whole ones: the way between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

__all__ = ["Whole", "counts", "is_sharded", "laid_out_like", "local", "total", "whole", "write"]


def is_sharded(value: object) -> TypeGuard[DTensor]:
    """Whether a tensor is a DTensor; it does not import what one is."""
    return isinstance(value, Tensor) and hasattr(value, "full_tensor")


def whole(value: Tensor) -> Tensor:
    """Return a tensor whole; of a sharded one all ranks must ask for it."""
    return value.full_tensor() if is_sharded(value) else value


def local(value: Tensor) -> Tensor:
    """Return what this rank has of a tensor; what is written there is written in the tensor."""
    return value.to_local() if is_sharded(value) else value


def laid_out_like(value: Tensor, reference: Tensor) -> Tensor:
    """Return a tensor as shards, if a tensor of its shape is; every rank takes its own part of the whole it has."""
    if not is_sharded(reference) or is_sharded(value):
        return value
    from torch.distributed.tensor import distribute_tensor

    value = value.to(reference.to_local().device)
    return distribute_tensor(value, reference.device_mesh, reference.placements, src_data_rank=None)


def total(value: Tensor, reference: Tensor) -> Tensor:
    """Return the sum over all ranks of what each has found in its shard of a tensor; itself, if that is no shard."""
    if is_sharded(reference):
        torch.distributed.all_reduce(value, group=reference.device_mesh.get_group())
    return value


def counts(masks: Mapping[str, Tensor]) -> dict[str, int]:
    """Return how many values of each mask are True, in one exchange between the ranks."""
    if not masks:
        return {}
    found = torch.stack([local(mask).count_nonzero() for mask in masks.values()])
    return dict(zip(masks, map(int, total(found, next(iter(masks.values()))).tolist()), strict=True))


@torch.no_grad()
def write(values: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Write whole or sharded values into tensors of the same names, which may be sharded."""
    for name, value in values.items():
        local(tensors[name]).copy_(local(laid_out_like(value, tensors[name])))


class Whole(Mapping[str, Tensor]):
    """Tensors by name, each made whole when it is asked for, and gone again when it is let go of.

    Args:
        tensors: sharded or not; all ranks must ask for the same ones in the same order.
        written: what is written to the whole ones is meant: they are kept until `write_back`.
    """

    def __init__(self, tensors: Mapping[str, Tensor], *, written: bool = False) -> None:
        self._tensors, self._written = tensors, written
        self._kept: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        """Return the whole tensor of a name."""
        value = self._tensors[name]
        if not is_sharded(value):
            return value
        if name in self._kept:
            return self._kept[name]
        found = whole(value.detach())
        if self._written:
            self._kept[name] = found
        return found

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return iter(self._tensors)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._tensors)

    def write_back(self) -> None:
        """Take over what was written to tensors that were made whole."""
        write(self._kept, self._tensors)
        self._kept.clear()
