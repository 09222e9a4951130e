"""orthogonal: the product with a random matrix of orthonormal columns that is never stored, made again from a seed."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from sparsify.kernels._linear import operator
from sparsify.kernels.seeded import seeded

__all__ = ["orthogonal"]

_GOLDEN = (math.sqrt(5) - 1) / 2


@operator
def orthogonal(values: Tensor, seed: Tensor, stream: int, size: int, transposed: bool = False) -> Tensor:
    """Return P ϑ for a random matrix P `[size, d]` with PᵀP = I, or Pᵀθ for P `[D, size]`.

    P is the first d columns of Q = W₂ S₃ W₁ Π S₂ W₁ S₁, where S are random signs, Π moves values to other places, and
    W₁ and W₂ are Hadamard matrices over the first and the last 2^k values, 2^k ≤ D < 2^(k+1) (no W₂ S₃ where D = 2^k).
    All are orthogonal, and but for a factor all are sums and differences in a fixed order: it takes O(D log D), and
    gives the same bits on every machine. Signs and places of the last few calls stay in memory.

    Args:
        values: ϑ, `[d]`, or θ, `[D]`.
        seed: one integer, of which the lowest 32 bits count.
        stream: which of 2^30 independent matrices.
        size: of the result; D, or d where it is transposed.
        transposed: multiply with Pᵀ.

    Raises:
        ValueError: P would have more columns than rows, or the values are no vector.

    Reference: Le et al., "Fastfood: Approximating Kernel Expansions in Loglinear Time", 2013; Li et al., "Measuring
    the Intrinsic Dimension of Objective Landscapes", 2018 (its use).
    """
    rows, columns = (values.shape[0], size) if transposed else (size, values.shape[0])
    if values.ndim != 1 or columns > rows:
        raise ValueError(f"orthonormal columns need as many rows: {columns} columns of {rows} values are too many")
    numbers = torch.promote_types(values.dtype, torch.float32)
    x = values.new_zeros(rows, dtype=numbers)
    x[: len(values)] = values
    first, second, third = (_signs(int(seed), 3 * stream + index, rows, numbers, values.device) for index in range(3))
    places, window = _places(rows, values.device), 1 << rows.bit_length() - 1
    if transposed:
        x = _mixed(x, rows - window, window).mul_(third) if window < rows else x
        x = _mixed(x, 0, window)
        x = _mixed(torch.empty_like(x).index_copy_(0, places, x).mul_(second), 0, window).mul_(first)
    else:
        x = _mixed((_mixed(x * first, 0, window) * second)[places], 0, window)
        x = _mixed(x.mul_(third), rows - window, window) if window < rows else x
    return x[:size].to(values.dtype, copy=True)


@torch.library.register_fake("sparsify::orthogonal")  # type: ignore[untyped-decorator]
def _(values: Tensor, seed: Tensor, stream: int, size: int, transposed: bool = False) -> Tensor:
    return values.new_empty(size)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    values, seed, ctx.stream, _, ctx.transposed = inputs
    ctx.size = values.shape[0]
    ctx.save_for_backward(seed)


def _backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradient of the values, the product with the transposed matrix."""
    (seed,) = ctx.saved_tensors
    return orthogonal(upstream, seed, ctx.stream, ctx.size, not ctx.transposed), None, None, None, None


torch.library.register_autograd("sparsify::orthogonal", _backward, setup_context=_keep)


@functools.lru_cache(maxsize=4)
def _places(size: int, device: torch.device) -> Tensor:
    """Return a permutation that takes neighbours far apart: steps of about the golden section, coprime to the size."""
    step = max(1, round(size * _GOLDEN))
    while math.gcd(step, size) > 1:
        step += 1
    return torch.arange(size, device=device) * step % size


@functools.lru_cache(maxsize=6)
def _signs(seed: int, stream: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    found: Tensor = seeded(torch.tensor(seed, device=device), stream, [size], "sign", dtype=dtype)
    return found


def _mixed(x: Tensor, start: int, window: int) -> Tensor:
    """Multiply some values of x, in place, with a Hadamard matrix."""
    part = x[start : start + window]
    part.copy_(_hadamard(part.clone()))
    return x


def _hadamard(x: Tensor) -> Tensor:
    """Multiply with the symmetric Hadamard matrix over √n, as H ⊗ H, along columns and rows; x is overwritten."""
    power = len(x).bit_length() - 1
    columns = 1 << power // 2
    x = _butterflies(x.view(-1, columns))
    x = _butterflies(x.t().contiguous()).t().reshape(-1)
    return x * (2.0 ** -(power // 2) * (math.sqrt(0.5) if power % 2 else 1.0))


def _butterflies(x: Tensor) -> Tensor:
    """Multiply with the Hadamard matrix without its factor, along the first dimension; x is overwritten."""
    rows, columns = x.shape
    step, other = rows // 2, torch.empty_like(x)
    while step:
        (upper, lower), (sums, differences) = (v.view(-1, 2, step * columns).unbind(1) for v in (x, other))
        torch.add(upper, lower, out=sums)
        torch.sub(upper, lower, out=differences)
        x, other, step = other, x, step // 2
    return x
