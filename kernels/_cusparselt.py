"""2:4 in cuSPARSELt, through torch: the weight compressed by the library, and a product in one of its algorithms.

Which algorithm is the fastest depends on the sizes, and the first is not always. The library can look for it, which
runs all of them, so it is done once for each size of a batch, rounded up as in the table of measurements.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sparsify.kernels._remembered import remembered

__all__ = ["Algorithm", "available", "multiply", "multiply_searched", "search"]


class Algorithm(NamedTuple):
    """An algorithm of the library.

    Attributes:
        number: of the algorithm.
        split: parts into which the sum over the inputs is divided.
        mode: how the parts are added up; -1 if there is only one.
    """

    number: int = 0
    split: int = 1
    mode: int = -1


@functools.cache
def available() -> bool:
    """Whether this torch has the library."""
    return bool(torch.backends.cusparselt.is_available())


def multiply(x: Tensor, compressed: Tensor, bias: Tensor | None, algorithm: Algorithm = Algorithm()) -> Tensor:  # noqa: B008
    """Return `x Wᵀ + bias`, `[M, N]`.

    Args:
        x: `[M, K]`, K a multiple of 32, of 16-bit numbers.
        compressed: what `torch._cslt_compress` made of the weight.
        bias: `[N]`.
        algorithm: of the library.
    """
    found: Tensor = torch._cslt_sparse_mm(
        compressed, _transposed(x), bias=bias, transpose_result=True,
        alg_id=algorithm.number, split_k=algorithm.split, split_k_mode=algorithm.mode,
    )  # fmt: skip
    return found[: x.shape[0]]


def multiply_searched(x: Tensor, compressed: Tensor, bias: Tensor | None) -> Tensor:
    """Return the same by the algorithm that the library finds to be the fastest."""
    role = "algorithm", (len(x) - 1).bit_length(), bias is not None
    return multiply(x, compressed, bias, remembered(role, (compressed,), lambda: search(x, compressed, bias)[0]))


def search(x: Tensor, compressed: Tensor, bias: Tensor | None) -> tuple[Algorithm, int | None]:
    """Return the algorithm that the library finds to be the fastest for these sizes, and the highest number there is.

    An older torch tells only the number of the algorithm.
    """
    whole = getattr(getattr(torch._C, "_cusparselt", None), "mm_search", None)
    given = compressed, _transposed(x), bias
    if whole is None:
        return Algorithm(int(torch._cslt_sparse_mm_search(*given, transpose_result=True))), None
    number, split, mode, highest = whole(*given, None, None, True)
    return Algorithm(int(number), int(split), int(mode)), int(highest)


def _transposed(x: Tensor) -> Tensor:
    """Return `[K, M]`, M filled up to a multiple of 8, as the library wants it."""
    return F.pad(x, (0, 0, 0, -x.shape[0] % 8)).contiguous().t()
