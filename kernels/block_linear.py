"""block_linear: a linear layer whose weight is stored as the tiles that are not empty."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sparsify.formats import row_numbers
from sparsify.kernels import _on_gpu
from sparsify.kernels._activations import activated
from sparsify.kernels._linear import check_rows, fitting, gradients, needed, operator, trimmed
from sparsify.kernels._places import DAMAGED, check_places
from sparsify.kernels._remembered import remembered

__all__ = ["block_linear"]


@operator
def block_linear(
    x: Tensor, values: Tensor, columns: Tensor, offsets: Tensor, bias: Tensor | None = None, activation: str = "none",
    outputs: int | None = None, inputs: int | None = None,
) -> Tensor:  # fmt: skip
    """Return `activation(x Wᵀ + bias)` for a weight in the format `BlockRows`.

    Time follows the number of tiles, forward and backward: on a CPU every tile is one product of a batch, on a GPU
    tiles of 16 to 128 rows and columns have kernels.

    Args:
        x: `[..., K]`.
        values: the tiles, `[T, rows, columns]`, in the type of x.
        columns: which column of tiles each is in, `int32[T]`.
        offsets: of every row of tiles the first one, `int32[⌈N / rows⌉ + 1]`.
        bias: `[N]`, in the type of x.
        activation: none, relu, gelu or silu.
        outputs: N; whole tiles if not given.
        inputs: K; checked if given.

    Returns:
        `[..., N]`.

    Raises:
        ValueError: there is no such activation, x or the bias has another length, or columns or offsets are outside of
            the matrix.
    """
    check_rows(x, inputs)
    size = _outputs(values, offsets, outputs)
    wide = -(-x.shape[-1] // values.shape[2])
    if len(values) != len(columns):
        raise ValueError(DAMAGED)
    remembered(("checked", wide), (columns, offsets), lambda: check_places(columns, offsets, wide))

    def batched(given: Tensor) -> Tensor:
        parts = _across(given, values.shape[2])[columns.long()] @ values.mT
        out = _together(parts, row_numbers(offsets, columns.shape[0]), offsets.shape[0] - 1, size)
        added = fitting(bias, size, x)
        return activated(out if added is None else out + added, activation)

    if _on_gpu.usable(x):
        return _on_gpu.block(
            x, (values, columns, offsets), bias, activation, size, batched,
            lambda: _dense(values, columns, offsets, (size, x.shape[-1])),
        )  # fmt: skip
    return batched(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], size)


@torch.library.register_fake("sparsify::block_linear")  # type: ignore[untyped-decorator]
def _(
    x: Tensor, values: Tensor, columns: Tensor, offsets: Tensor, bias: Tensor | None = None, activation: str = "none",
    outputs: int | None = None, inputs: int | None = None,
) -> Tensor:  # fmt: skip
    check_rows(x, inputs)
    return x.new_empty(*x.shape[:-1], _outputs(values, offsets, outputs))


def _outputs(values: Tensor, offsets: Tensor, outputs: int | None) -> int:
    return (offsets.shape[0] - 1) * values.shape[1] if outputs is None else outputs


def _dense(values: Tensor, columns: Tensor, offsets: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the weight as a matrix `[N, K]`."""
    height, width = values.shape[1:]
    down, across = offsets.shape[0] - 1, -(-shape[1] // width)
    whole = values.new_zeros(down, across, height, width)
    whole = whole.index_put((row_numbers(offsets, columns.shape[0]), columns.long()), values)
    return whole.transpose(1, 2).reshape(down * height, across * width)[: shape[0], : shape[1]].contiguous()


def _across(value: Tensor, width: int) -> Tensor:
    """Cut rows `[M, K]` into pieces `[⌈K / width⌉, M, width]`."""
    padded = F.pad(value, (0, -value.shape[1] % width))
    return padded.view(value.shape[0], padded.shape[1] // width, width).transpose(0, 1)


def _together(parts: Tensor, places: Tensor, count: int, size: int) -> Tensor:
    """Add up pieces `[T, M, width]` that belong to the same place, and join the places to rows `[M, size]`."""
    sums = parts.new_zeros(count, *parts.shape[1:]).index_add(0, places, parts)
    return sums.transpose(0, 1).flatten(1)[:, :size].contiguous()


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, columns, offsets, bias, ctx.activation, ctx.outputs, _ = inputs
    ctx.save_for_backward(x, values, columns, offsets, bias)


def _backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, of the tiles and of the bias."""
    x, values, columns, offsets, bias = ctx.saved_tensors
    rows, places = row_numbers(offsets, columns.shape[0]), columns.long()
    height, width = values.shape[1:]
    across = -(-x.shape[-1] // width)

    def of_inputs(g: Tensor) -> Tensor:
        if _on_gpu.usable(g) and (found := _on_gpu.block_inputs(g, values, columns, offsets, x.shape[-1])) is not None:
            return found
        return _together(_across(g, height)[rows] @ values, places, across, x.shape[-1])

    def of_tiles(g: Tensor, given: Tensor) -> Tensor:
        if _on_gpu.usable(g) and (found := _on_gpu.block_tiles(g, given, values, rows, columns)) is not None:
            return found
        return _across(g, height)[rows].mT @ _across(given, width)[places]

    of_x, of_values, of_bias = gradients(
        upstream, x, values, ctx.activation, needed(ctx, (0, 1, 4)),
        before=lambda: block_linear(x, values, columns, offsets, bias, "none", ctx.outputs),
        of_x=of_inputs, of_values=of_tiles,
    )  # fmt: skip
    return trimmed(ctx, of_x, of_values, None, None, of_bias, None, None, None)


torch.library.register_autograd("sparsify::block_linear", _backward, setup_context=_keep)
