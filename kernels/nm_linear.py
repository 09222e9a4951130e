"""nm_linear: a linear layer whose weight is stored as n of every m consecutive weights and their places."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sparsify.formats.nm import code_bits, unpacked
from sparsify.kernels import _on_gpu
from sparsify.kernels._linear import check_rows, dense_linear, gradients, needed, operator, trimmed

__all__ = ["nm_linear"]


@operator
def nm_linear(
    x: Tensor, values: Tensor, codes: Tensor, bias: Tensor | None = None, activation: str = "none",
    n: int = 2, m: int = 4, inputs: int | None = None,
) -> Tensor:  # fmt: skip
    """Return `activation(x Wᵀ + bias)` for a weight in the format `Nm`.

    On a GPU 2:4 in 16 bits goes into sparse tensor cores as it is stored; a copy in their order is kept. Elsewhere the
    weight is written out as a dense matrix, which is kept, too: no processor computes N:M faster than dense.

    Args:
        x: `[..., K]`.
        values: `[N, ⌈K / m⌉ · n]`, in the type of x.
        codes: their places in their groups, `uint8[N, ...]`, packed as `Nm` says.
        bias: `[N]`, in the type of x.
        activation: none, relu, gelu or silu.
        n: how many are stored of a group.
        m: how long a group is.
        inputs: K; checked if given.

    Returns:
        `[..., N]`.

    Raises:
        ValueError: there is no such activation, or x or the bias has another length.
    """
    check_rows(x, inputs)
    if values.shape[1] != -(-x.shape[-1] // m) * n:
        raise ValueError(f"{values.shape[1]} values a row are not {n} of every {m} of {x.shape[-1]} inputs")

    def dense() -> Tensor:
        return _dense(values, codes, x.shape[-1], n, m)

    if (n, m) == (2, 4) and _on_gpu.usable(x):
        return _on_gpu.nm(x, values, codes, bias, activation, dense)
    return dense_linear(x, (values, codes), dense, bias, activation)


@torch.library.register_fake("sparsify::nm_linear")  # type: ignore[untyped-decorator]
def _(
    x: Tensor, values: Tensor, codes: Tensor, bias: Tensor | None = None, activation: str = "none",
    n: int = 2, m: int = 4, inputs: int | None = None,
) -> Tensor:  # fmt: skip
    check_rows(x, inputs)
    return x.new_empty(*x.shape[:-1], values.shape[0])


def _dense(values: Tensor, codes: Tensor, inputs: int, n: int, m: int) -> Tensor:
    """Return the weight as a matrix `[N, K]`."""
    whole = values.new_zeros(values.shape[0], values.shape[1] // n * m)
    return whole.scatter(1, _columns(values, codes, n, m), values)[:, :inputs]


def _columns(values: Tensor, codes: Tensor, n: int, m: int) -> Tensor:
    """Return the column of every value, `int64[N, ⌈K / m⌉ · n]`."""
    places = unpacked(codes, code_bits(m), values.shape[1])
    return places + torch.arange(values.shape[1], device=codes.device) // n * m


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, codes, bias, ctx.activation, ctx.n, ctx.m, _ = inputs
    ctx.save_for_backward(x, values, codes, bias)


def _backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, of the values and of the bias; beyond the end of a row values have none."""
    x, values, codes, bias = ctx.saved_tensors

    def of_stored(g: Tensor, rows: Tensor) -> Tensor:
        whole = F.pad(g.t() @ rows, (0, values.shape[1] // ctx.n * ctx.m - x.shape[-1]))
        return whole.gather(1, _columns(values, codes, ctx.n, ctx.m))

    of_x, of_values, of_bias = gradients(
        upstream, x, values, ctx.activation, needed(ctx, (0, 1, 3)),
        before=lambda: nm_linear(x, values, codes, bias, "none", ctx.n, ctx.m),
        of_x=lambda g: g @ _dense(values, codes, x.shape[-1], ctx.n, ctx.m),
        of_values=of_stored,
    )  # fmt: skip
    return trimmed(ctx, of_x, of_values, None, of_bias, None, None, None, None)


torch.library.register_autograd("sparsify::nm_linear", _backward, setup_context=_keep)
