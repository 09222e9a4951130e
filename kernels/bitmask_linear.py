"""bitmask_linear: a linear layer whose weight is stored as one bit for every weight and the weights that are kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparsify.formats.nm import unpacked
from sparsify.kernels import _on_cpu, _on_gpu
from sparsify.kernels._linear import check_rows, dense_linear, gradients, needed, operator, trimmed
from sparsify.kernels._places import DAMAGED
from sparsify.kernels._remembered import remembered

__all__ = ["bitmask_linear"]


@operator
def bitmask_linear(
    x: Tensor, values: Tensor, bits: Tensor, offsets: Tensor, bias: Tensor | None = None, activation: str = "none",
    inputs: int | None = None,
) -> Tensor:  # fmt: skip
    """Return `activation(x Wᵀ + bias)` for a weight in the format `Bitmask`.

    On a CPU in float32 with numba (`sparsify-fx[cpu]`) only kept weights are read and computed; their columns are then
    kept beside the matrix, in 2 bytes each (`Places`). On a GPU, in 16 bits and for at most 16 inputs, pairs of weights
    are kept in the order of tensor cores. Elsewhere the weight is written out, and kept.

    Args:
        x: `[..., K]`.
        values: what is kept, row by row, `[E]`, in the type of x.
        bits: `uint8[N, ⌈K / 8⌉]`; the first weight of a row is the lowest bit of its first byte.
        offsets: of each row the first value, `int32[N + 1]`.
        bias: `[N]`, in the type of x.
        activation: none, relu, gelu or silu.
        inputs: K; checked if given.

    Returns:
        `[..., N]`.

    Raises:
        ValueError: there is no such activation, x or the bias has another length, or bits and offsets do not fit the
            matrix.
    """
    check_rows(x, inputs)
    if _on_cpu.usable(x, values):
        return _on_cpu.kept_linear(
            x, values, (bits, offsets), lambda: _columns(bits, offsets, x.shape[-1]), bias, activation
        )
    if _on_gpu.usable(x):
        return _on_gpu.bitmask(
            x, (values, bits, offsets), lambda: unpacked(bits, 1, x.shape[-1]).bool(), bias, activation,
            lambda: _written(values, bits, offsets, x.shape[-1]),
        )  # fmt: skip
    return dense_linear(
        x, (values, bits, offsets), lambda: _written(values, bits, offsets, x.shape[-1]), bias, activation
    )


@torch.library.register_fake("sparsify::bitmask_linear")  # type: ignore[untyped-decorator]
def _(
    x: Tensor, values: Tensor, bits: Tensor, offsets: Tensor, bias: Tensor | None = None, activation: str = "none",
    inputs: int | None = None,
) -> Tensor:  # fmt: skip
    check_rows(x, inputs)
    return x.new_empty(*x.shape[:-1], bits.shape[0])


def _columns(bits: Tensor, offsets: Tensor, inputs: int) -> tuple[Tensor, Tensor]:
    """Return columns and offsets if every row has as many bits as values, none of them behind its end."""
    if bits.dtype != torch.uint8 or bits.shape[1] != -(-inputs // 8) or len(offsets) != len(bits) + 1:
        raise ValueError(DAMAGED)
    kept = unpacked(bits, 1, 8 * bits.shape[1])
    if int(offsets[0]) or not torch.equal(kept.sum(1), offsets.diff()) or kept[:, inputs:].any():
        raise ValueError(DAMAGED)
    return kept.nonzero()[:, 1], offsets


def _written(values: Tensor, bits: Tensor, offsets: Tensor, inputs: int) -> Tensor:
    """Return the weight as a matrix `[N, K]` if bits, offsets and values belong together."""
    columns, _ = _columns(bits, offsets, inputs)
    if values.shape != columns.shape:
        raise ValueError(DAMAGED)
    return _dense(values, bits, inputs)


def _dense(values: Tensor, bits: Tensor, inputs: int) -> Tensor:
    """Return the weight as a matrix `[N, K]`."""
    dense = values.new_zeros(bits.shape[0] * inputs)
    return dense.index_put((_places(values, bits, inputs),), values).view(bits.shape[0], inputs)


def _places(values: Tensor, bits: Tensor, inputs: int) -> Tensor:
    """Return where in the matrix, row by row, the values `[E]` are, `int64[E]`."""

    def found() -> Tensor:
        kept = unpacked(bits, 1, inputs).flatten()
        return torch.nonzero_static(kept, size=values.shape[0])[:, 0]  # of a size that is known when this is compiled

    return remembered(("places in the matrix", inputs), (bits,), found)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, bits, offsets, bias, ctx.activation, _ = inputs
    ctx.save_for_backward(x, values, bits, offsets, bias)


def _backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, of the values and of the bias."""
    x, values, bits, offsets, bias = ctx.saved_tensors

    of_x, of_values, of_bias = gradients(
        upstream, x, values, ctx.activation, needed(ctx, (0, 1, 4)),
        before=lambda: bitmask_linear(x, values, bits, offsets, bias),
        of_x=lambda g: g @ _dense(values, bits, x.shape[-1]),
        of_values=lambda g, rows: (g.t() @ rows).flatten()[_places(values, bits, x.shape[-1])],
    )  # fmt: skip
    return trimmed(ctx, of_x, of_values, None, None, of_bias, None, None)


torch.library.register_autograd("sparsify::bitmask_linear", _backward, setup_context=_keep)
