"""How a training is spread over ranks: not at all, with DDP, or with FSDP2."""

from __future__ import annotations

import ctypes
import inspect
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.distributed import tensor as distributed_tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard
from torch.utils import _pytree as pytree

from sparsify.errors import ContractError, OptionError, UsageError
from sparsify.naming import first_names
from sparsify.parallel.batch_norm import SyncedNorms
from sparsify.parallel.ranks import ALONE, Ranks, joined, together
from sparsify.parallel.sharded_module import sharded
from sparsify.parallel.tensors import is_sharded
from sparsify.program import Program
from sparsify.task import Batch

__all__ = ["Count", "Kind", "Parallel", "parallel"]

Kind: TypeAlias = Literal["ddp", "fsdp"]
Count: TypeAlias = Callable[[Batch], float]

_MMAP_THRESHOLD = -3  # of glibc's malloc.h
_LARGE = 1 << 20  # bytes
_SAMPLED = 1024  # numbers of a tensor by which batches are told apart


class Parallel:
    """A training in this process alone; the others derive from it.

    Attributes:
        kind: `ddp`, `fsdp`, or None.
        ranks: this process among the others.
    """

    kind: ClassVar[Kind | None] = None

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks

    def module(self, program: Program) -> nn.Module:
        """Return a new module of a program, to be trained."""
        return program.module(training=True)

    def called(self, module: nn.Module) -> nn.Module:
        """Return what is called instead of the module in a forward pass with gradients."""
        return module

    def share(self, batch: Batch, count: Count | None = None) -> Batch:
        """Return this rank's part of a batch.

        Args:
            batch: the same on all ranks.
            count: says of what in a batch the loss is the mean; of examples, if not given.
        """
        return batch

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the loss of a share so that the mean over the ranks is that of the batch."""
        return loss

    def of_batch(self, loss: float, step: int) -> float:
        """Return the loss of the batch of a step, given that of a share.

        Raises:
            UsageError: the ranks have been given different batches.
        """
        return loss

    def guarded(self) -> AbstractContextManager[None]:
        """Return the context of a step, which says of its errors if they come from the loss of another rank."""
        return nullcontext() if self.kind is None else together()

    def any(self, *flags: bool) -> list[bool]:
        """Return of each flag whether some rank has it, in one exchange."""
        return [count > 0 for count in self.ranks.summed(*flags)]

    def audit(self, module: nn.Module, masks: Mapping[str, Tensor], step: int) -> None:
        """Check that what all ranks have is the same on all of them: parameters, buffers and masks, but for shards.

        Raises:
            ContractError: something is not.
        """
        state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        state |= {f"the mask of {name}": mask for name, mask in masks.items()}
        if differing := self.ranks.differing({name: value for name, value in state.items() if not is_sharded(value)}):
            raise ContractError(
                f"After step {step} the processes of this run have other values of {first_names(differing)}: the task "
                "or the model computes something else in each."
            )

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return room for a value of a checkpoint that was sharded when it was written."""
        return torch.empty(shape, dtype=dtype)

    @property
    def record(self) -> dict[str, Any]:
        """What a report says about it."""
        return {} if self.kind is None else {"parallel": {"kind": self.kind, "ranks": self.ranks.size}}


class Ddp(Parallel):
    """Every rank has the whole model and a share of each batch; gradients are averaged.

    Reference: Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", 2020.
    """

    kind: ClassVar[Kind | None] = "ddp"

    def __init__(self, ranks: Ranks) -> None:
        super().__init__(ranks)
        self._norms = SyncedNorms()
        self._fraction, self._sample = 1.0 / ranks.size, 0

    def module(self, program: Program) -> nn.Module:
        """Return a new module whose batch norms look at the whole batch."""
        module = program.module(training=True)
        module.rewrite(self._norms.rewrite)
        return module

    def called(self, module: nn.Module) -> nn.Module:
        """Return the module inside DDP, which knows after the first step which parameters have no gradient."""
        ddp = nn.parallel.DistributedDataParallel
        known = inspect.signature(ddp).parameters
        option = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # its older name
        options: dict[str, Any] = {option: False, "static_graph": True, "gradient_as_bucket_view": True}
        return ddp(module, **options)

    def share(self, batch: Batch, count: Count | None = None) -> Batch:
        """Return this rank's part of a batch; of one that is too small, an example that counts for nothing."""
        size = _batch_size(batch)
        start, stop = (size * rank // self.ranks.size for rank in (self.ranks.rank, self.ranks.rank + 1))
        self._sample = _sample(batch)
        self._norms.weight = 1.0 if stop > start else 0.0
        first = min(start, size - 1)
        part = slice(first, max(stop, first + 1))
        found = pytree.tree_map(lambda leaf: leaf[part] if _has_examples(leaf, size) else leaf, batch)
        if count is None or stop == start:
            self._fraction = (stop - start) / size
        else:
            self._fraction = float(count(found)) / float(count(batch))
        return found

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the loss of a share so that the mean over the ranks is that of the batch."""
        factor = self._fraction * self.ranks.size
        return loss if factor == 1 else loss * factor

    def of_batch(self, loss: float, step: int) -> float:
        """Return the loss of the batch of a step, given that of a share; see that all ranks have the same batch."""
        found, samples, squares = self.ranks.summed(loss * self._fraction, self._sample, self._sample**2)
        if squares * self.ranks.size != samples**2:  # as it is where all have the same
            raise UsageError(
                f"Training: the processes of this run got different batches at step {step}, and each would train on a "
                "part of another one. The task must give the same batches for the same seed in every process: what it "
                "shuffles with should follow the seed, and every process should see the same data."
            )
        return found


class Fsdp(Ddp):
    """Every rank has a shard of each parameter, its gradient and its optimizer slots, and a share of each batch.

    Reference: Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", 2023; FSDP2 is torch's
    `fully_shard`.
    """

    kind: ClassVar[Kind | None] = "fsdp"

    def __init__(self, ranks: Ranks, device: str) -> None:
        super().__init__(ranks)
        self._mesh = init_device_mesh(device, (ranks.size,))
        if device == "cpu":
            _give_memory_back()

    def module(self, program: Program) -> nn.Module:
        """Return a new module in pieces, each of which is whole only while it runs."""
        return sharded(program, self._mesh, self._norms.rewrite)

    def called(self, module: nn.Module) -> nn.Module:
        """Return the module itself: FSDP2 works by its hooks."""
        return module

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return room for this rank's shard."""
        return distributed_tensor.zeros(shape, dtype=dtype, device_mesh=self._mesh, placements=[Shard(0)])


@contextmanager
def parallel(kind: Kind | None, device: str = "cpu") -> Iterator[Parallel]:
    """Join the other processes of a run, for the time of the block.

    Args:
        kind: `ddp`, `fsdp`, or None for this process alone.
        device: where the run computes.

    Raises:
        UsageError: torchrun has not started this process.
    """
    if kind is None:
        yield Parallel()
        return
    with joined(device) as ranks:
        yield Ddp(ranks) if kind == "ddp" else Fsdp(ranks, torch.device(device).type)


def _give_memory_back() -> None:
    """Let glibc give large blocks back when they are free, as whole layers are after each use.

    By default it keeps what it has once had for them: a run in two shards then takes more memory than two whole ones.
    """
    with suppress(AttributeError, OSError):  # another libc
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE)


def _batch_size(batch: Batch) -> int:
    """Return how many examples a batch has: the first dimension of its first tensor.

    Raises:
        OptionError: it has none.
    """
    for leaf in pytree.tree_leaves(batch):
        if isinstance(leaf, Tensor) and leaf.dim() and len(leaf):
            return len(leaf)
    raise OptionError(
        "Training: --parallel gives every process a part of each batch, along the first dimension of its tensors, and "
        "this task's batches have none."
    )


def _sample(batch: Batch) -> int:
    """Return 16 bits that tell batches apart: of some numbers of every tensor, spread over all of it."""
    found = 0
    for leaf in pytree.tree_leaves(batch):
        if isinstance(leaf, Tensor):
            found = zlib.crc32(repr(leaf.shape).encode(), found)
            flat = leaf.detach().reshape(-1)
            some = flat[:: max(1, len(flat) // _SAMPLED)].cpu().contiguous()
            found = zlib.crc32(some.view(torch.uint8).numpy().tobytes(), found)
    return found & 0xFFFF


def _has_examples(leaf: Any, size: int) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > 0 and len(leaf) == size
