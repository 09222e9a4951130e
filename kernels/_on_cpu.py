"""Products with kept weights on CPUs: which of two kernels takes them."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sparsify.kernels._activations import activated
from sparsify.kernels._linear import fitting
from sparsify.kernels._places import arrange
from sparsify.kernels._remembered import remembered, remembered_if_settled
from sparsify.kernels._windows import arrange_windows

__all__ = ["kept_linear", "usable"]

_ROWS = 8  # of x up to which windows are faster than a panel of x
_FEW = 2  # rows of x up to which they are so however few weights are kept
_DENSE = 0.07  # share that is kept from which on they are so for more rows
_NUMBA = importlib.util.find_spec("numba") is not None


def usable(x: Tensor, values: Tensor) -> bool:
    """Tell whether kernels here take x and kept weights: numbers of 32 bits, and numba is there."""
    return x.is_cpu and x.dtype == values.dtype == torch.float32 and _NUMBA


def kept_linear(
    x: Tensor, values: Tensor, where: Sequence[Tensor], kept: Callable[[], tuple[Tensor, Tensor]],
    bias: Tensor | None, activation: str,
) -> Tensor:  # fmt: skip
    """Return `activation(x Wᵀ + bias)`, `[..., N]`, computed of the kept weights alone.

    With AVX-512 and for a few rows of x weights are arranged as `Windows`, unless too few are kept. While they are
    trained they change in every call, and then, and elsewhere, they are read where they are (`Places`).

    Args:
        x: `float32[..., K]`.
        values: what is kept, row by row, `float32[E]`.
        where: tensors of the format that tell where they are, offsets of the rows last.
        kept: reads these: columns `[E]`, and offsets `[N + 1]` of the rows; it may refuse them.
        bias: `float32[N]`.
        activation: none, relu, gelu or silu.

    Raises:
        ValueError: values or bias have another length or type: a kernel would read beyond their ends.
    """
    outputs, inputs, rectified = where[-1].numel() - 1, x.shape[-1], activation == "relu"
    row_product, window_product = _kernels()
    bias = fitting(bias, outputs, x)
    out = None
    if window_product is not None and outputs and _fits_windows(x.numel(), inputs, values.numel() / outputs):
        windows = remembered_if_settled(
            ("windows", inputs), (values, *where), lambda: arrange_windows(values, *kept(), inputs)
        )
        out = None if windows is None else window_product(windows, x, bias, rectified)
    if out is None:
        places = remembered(("places", inputs), where, lambda: arrange(*kept(), inputs))
        out = row_product(values, places, x, bias, rectified)
    return out if activation in ("none", "relu") else activated(out, activation)


def _fits_windows(numbers: int, inputs: int, kept: float) -> bool:
    """Tell whether windows are the faster way for so many numbers of x and weights kept in a row.

    With more rows of x than two, lanes that wait cost more than single loads where little is kept.
    """
    return 0 < numbers <= _ROWS * inputs and (numbers <= _FEW * inputs or kept >= _DENSE * inputs)


@functools.cache
def _kernels() -> tuple[Callable[..., Tensor], Callable[..., Tensor | None] | None]:
    """Return both kernels, the second if the processor has what it needs; numba takes long to import."""
    from sparsify.kernels._row_products import row_product
    from sparsify.kernels._window_products import window_product
    from sparsify.kernels._window_sums import available

    return row_product, window_product if available() else None
