"""Formats: a sparse matrix as dense tensors, without loss, one layout per file, the same on every machine.

A matrix is a linear layer's weight `[N, K]`: N outputs, K inputs. `encode(weight, mask)` stores what the mask keeps,
bit for bit (NaN, infinities and -0.0 among it); `decode()` gives the matrix back with +0.0 everywhere else. Kernels
may rearrange a format for themselves, but only formats are stored and handed on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Format", "checked", "row_numbers", "row_offsets"]


@dataclass(frozen=True)
class Format(ABC):
    """A sparse matrix `[N, K]`.

    Attributes:
        shape: N and K.
    """

    shape: tuple[int, int]

    @abstractmethod
    def decode(self) -> Tensor:
        """Return the matrix, dense: what is kept, bit for bit, and +0.0."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    @property
    def nbytes(self) -> int:
        """How many bytes are stored."""
        return sum(value.nbytes for value in self.tensors.values())


def checked(weight: Tensor, mask: Tensor) -> tuple[int, int]:
    """Return the shape of a matrix and its mask.

    Raises:
        ValueError: it is no matrix, or the mask does not fit.
    """
    if weight.ndim != 2 or mask.shape != weight.shape or mask.dtype != torch.bool:
        raise ValueError(f"a matrix and its boolean mask are needed, not {list(weight.shape)} and "
                         f"{mask.dtype}{list(mask.shape)}")  # fmt: skip
    return weight.shape[0], weight.shape[1]


def row_offsets(counts: Tensor) -> Tensor:
    """Return where the values of every row begin, and where the last ones end, `int32[N + 1]`, from their counts.

    Raises:
        ValueError: there are more values than an int32 can count.
    """
    offsets = F.pad(counts.cumsum(0, dtype=torch.int64), (1, 0))
    if int(offsets[-1]) > torch.iinfo(torch.int32).max:
        raise ValueError(f"{int(offsets[-1]):,} values are more than a format can hold; divide the matrix")
    return offsets.int()


def row_numbers(offsets: Tensor, count: int) -> Tensor:
    """Return which row each of `count` values is in, `int64[count]`; the other way round as `row_offsets`."""
    return torch.repeat_interleave(offsets.diff().long(), output_size=count)
