"""index_linear: a linear layer whose weight is stored as the weights that are kept and their columns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparsify.formats import row_numbers
from sparsify.kernels import _on_cpu, _on_gpu
from sparsify.kernels._linear import check_rows, dense_linear, gradients, needed, operator, trimmed
from sparsify.kernels._places import DAMAGED, check_places

__all__ = ["index_linear"]


@operator
def index_linear(
    x: Tensor, values: Tensor, columns: Tensor, offsets: Tensor, bias: Tensor | None = None, activation: str = "none",
    inputs: int | None = None,
) -> Tensor:  # fmt: skip
    """Return `activation(x Wᵀ + bias)` for a weight in the format `Index`.

    On a CPU in float32 with numba (`sparsify-fx[cpu]`) only kept weights are read and computed; a copy of the columns
    is then kept, in 2 bytes each (`Places`). Without it, and in other types, the weight is written out, and kept.

    Args:
        x: `[..., K]`.
        values: what is kept, row by row, `[E]`, in the type of x.
        columns: of each value, `int32[E]`.
        offsets: of each row the first value, `int32[N + 1]`.
        bias: `[N]`, in the type of x.
        activation: none, relu, gelu or silu.
        inputs: K; checked if given.

    Returns:
        `[..., N]`.

    Raises:
        ValueError: there is no such activation, x or the bias has another length, or columns or offsets are outside of
            the matrix.
    """
    check_rows(x, inputs)
    if _on_cpu.usable(x, values):
        return _on_cpu.kept_linear(
            x, values, (columns, offsets), lambda: _columns(columns, offsets, x.shape[-1]), bias, activation
        )
    if _on_gpu.usable(x):
        return _on_gpu.index(
            x, (values, columns, offsets), bias, activation, lambda: check_places(columns, offsets, x.shape[-1]),
            lambda: _written(values, columns, offsets, x.shape[-1]),
        )  # fmt: skip
    return dense_linear(
        x, (values, columns, offsets), lambda: _written(values, columns, offsets, x.shape[-1]), bias, activation
    )


@torch.library.register_fake("sparsify::index_linear")  # type: ignore[untyped-decorator]
def _(
    x: Tensor, values: Tensor, columns: Tensor, offsets: Tensor, bias: Tensor | None = None, activation: str = "none",
    inputs: int | None = None,
) -> Tensor:  # fmt: skip
    check_rows(x, inputs)
    return x.new_empty(*x.shape[:-1], offsets.shape[0] - 1)


def _columns(columns: Tensor, offsets: Tensor, inputs: int) -> tuple[Tensor, Tensor]:
    """Return columns and offsets if all of them are inside of the matrix."""
    check_places(columns, offsets, inputs)
    return columns, offsets


def _written(values: Tensor, columns: Tensor, offsets: Tensor, inputs: int) -> Tensor:
    """Return the weight as a matrix `[N, K]` if all of it is inside."""
    check_places(columns, offsets, inputs)
    if values.shape != columns.shape:
        raise ValueError(DAMAGED)
    return _dense(values, columns, offsets, inputs)


def _dense(values: Tensor, columns: Tensor, offsets: Tensor, inputs: int) -> Tensor:
    """Return the weight as a matrix `[N, K]`."""
    dense = values.new_zeros(offsets.shape[0] - 1, inputs)
    return dense.index_put((row_numbers(offsets, values.shape[0]), columns.long()), values)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, columns, offsets, bias, ctx.activation, _ = inputs
    ctx.save_for_backward(x, values, columns, offsets, bias)


def _backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, of the values and of the bias."""
    x, values, columns, offsets, bias = ctx.saved_tensors
    of_x, of_values, of_bias = gradients(
        upstream, x, values, ctx.activation, needed(ctx, (0, 1, 4)),
        before=lambda: index_linear(x, values, columns, offsets, bias),
        of_x=lambda g: g @ _dense(values, columns, offsets, x.shape[-1]),
        of_values=lambda g, rows: (g.t() @ rows)[row_numbers(offsets, values.shape[0]), columns.long()],
    )  # fmt: skip
    return trimmed(ctx, of_x, of_values, None, None, of_bias, None, None)


torch.library.register_autograd("sparsify::index_linear", _backward, setup_context=_keep)
