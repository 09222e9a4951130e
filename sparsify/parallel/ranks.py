"""Ranks: the processes of one run, what they agree on, and how all of them end when one does."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sparsify.errors import SparsifyError, UsageError

__all__ = ["ALONE", "LostRankError", "Ranks", "joined", "started", "together"]

T = TypeVar("T")

_OF_GROUPS = re.compile("gloo|nccl|connection (closed|reset)|broken pipe|ProcessGroup|TCPStore", re.IGNORECASE)
_HOURS = 6.0  # that ranks wait for each other: the first one writes files and scores while others wait


class LostRankError(SparsifyError):
    """Another rank has ended, so that this one cannot go on."""

    exit_status = 143  # as of a process that was told to end: the other rank says why


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run.

    Attributes:
        rank: which one it is, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes files and tells the user."""
        return self.rank == 0

    def led(self, function: Callable[[], T]) -> T:
        """Return on all ranks what a function returns on the first one; if it fails there, all end.

        Raises:
            LostRankError: on the other ranks, if it failed; on the first one it is the function's own error.
        """
        if self.size == 1:
            return function()
        told: list[Any] = [None, None]
        failed: BaseException | None = None
        if self.leads:
            try:
                told[0] = function()
            except BaseException as error:  # noqa: BLE001 -- it is raised again behind the others' being told
                failed, told[1] = error, f"{type(error).__name__}"
        with together():
            dist.broadcast_object_list(told, src=0)
        if failed is not None:
            raise failed
        if told[1] is not None:
            raise LostRankError(f"The first rank has failed with {told[1]}; it says why.")
        found: T = told[0]
        return found

    def same(self, value: Any) -> bool:
        """Whether all ranks have the same value."""
        return all(other == value for other in self.gathered(value))

    def gathered(self, value: T) -> list[T]:
        """Return what each of the ranks gives; it should be small."""
        if self.size == 1:
            return [value]
        known: list[Any] = [None] * self.size
        with together():
            dist.all_gather_object(known, value)
        return known

    def differing(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Return the names of the tensors that do not have the same bits on all ranks."""
        if self.size == 1 or not tensors:
            return []
        flat = (value.detach().cpu().contiguous().view(-1).view(torch.uint8) for value in tensors.values())
        sums = [zlib.crc32(value.numpy().data) for value in flat]
        least = torch.tensor(sums, dtype=torch.int64, device=_device())
        most = least.clone()
        with together():
            dist.all_reduce(least, dist.ReduceOp.MIN)
            dist.all_reduce(most, dist.ReduceOp.MAX)
        return [name for name, equal in zip(tensors, (least == most).tolist(), strict=True) if not equal]

    def summed(self, *values: float) -> list[float]:
        """Return the sums of some numbers over all ranks, in one exchange."""
        if self.size == 1:
            return list(values)
        found = torch.tensor(values, dtype=torch.float64, device=_device())
        with together():
            dist.all_reduce(found)
        return found.tolist()


ALONE = Ranks()


@contextmanager
def together() -> Iterator[None]:
    """Say of an error in an exchange between ranks that another one has ended.

    Raises:
        LostRankError: of such an error, also where something else was raised from it.
    """
    try:
        yield
    except Exception as error:
        causes = [error, error.__cause__, error.__context__]
        if not any(isinstance(cause, RuntimeError) and _OF_GROUPS.search(str(cause)) for cause in causes):
            raise
        raise LostRankError(
            "Another process of the run has ended, so that this one cannot go on. With --work the same command goes on "
            "behind the last checkpoint, if there is one yet, also with another number of processes."
        ) from error


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the other processes that torchrun has started, or take the group that there is.

    Args:
        device: where the run computes, which decides how ranks exchange: nccl on GPUs, gloo elsewhere.

    Raises:
        UsageError: torchrun has not started this process.
    """
    if dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    if "RANK" not in os.environ:
        raise UsageError(
            "--parallel is for processes that torchrun starts, such as: torchrun --nproc-per-node 2 -m sparsify "
            "MODEL --parallel ddp ..."
        )
    backend = "gloo"
    if torch.device(device).type == "cuda":
        backend = "nccl"
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    with together():
        dist.init_process_group(backend, timeout=timedelta(hours=_HOURS))
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def started() -> list[str]:
    """Return the words that start this run's processes, in front of those of the command."""
    size, here = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    machines = ["--nnodes", str(size // here)] if size > here else []
    return ["torchrun", *machines, "--nproc-per-node", str(here), "-m", "sparsify"]


def _device() -> torch.device:
    """Return where numbers lie that are exchanged."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
