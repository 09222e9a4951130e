"""What linear layers with sparse weights have in common: how torch knows them, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sparsify.kernels._activations import activated, derivative
from sparsify.kernels._remembered import forget, remembered

__all__ = ["check_rows", "dense_linear", "fitting", "gradients", "needed", "operator", "trimmed"]


def operator(function: Callable[..., Tensor]) -> Any:
    """Return `sparsify::<name>`, an operator of torch that computes what a function does on every device.

    `torch.library.custom_op` would do the same, and look at every call whether a result is one of the arguments. Under
    autocast x gets the type of the values, its second argument: what kernels remember of these would be gone if they
    were converted in every call.
    """
    name = f"sparsify::{function.__name__}"
    schema = torch.library.infer_schema(function, mutates_args=())
    torch.library.define(name, schema, tags=(torch.Tag.pt2_compliant_tag,))
    torch.library.impl(name, "CompositeExplicitAutograd", function)
    made = getattr(torch.ops.sparsify, function.__name__).default
    made.__doc__ = function.__doc__

    def without_autocast(x: Tensor, values: Tensor, *others: Any, **more: Any) -> Any:
        with torch.autocast(x.device.type, enabled=False):
            return made(x.to(values.dtype), values, *others, **more)

    for device in ("CPU", "CUDA"):
        torch.library.impl(name, f"Autocast{device}", without_autocast)
    return made


def check_rows(x: Tensor, inputs: int | None) -> None:
    """Refuse x whose rows are not as long as those of the weight, if that is known.

    Raises:
        ValueError: they are not, or x has no dimension.
    """
    if not x.ndim or (inputs is not None and x.shape[-1] != inputs):
        raise ValueError(f"x must be [..., {'K' if inputs is None else inputs}], as long as the weight's rows, "
                         f"not {list(x.shape)}")  # fmt: skip


def fitting(bias: Tensor | None, outputs: int, x: Tensor) -> Tensor | None:
    """Return a bias as kernels read it.

    Raises:
        ValueError: it has another length or type than the outputs: a kernel would read beyond its end.
    """
    if bias is not None and (bias.shape != (outputs,) or bias.dtype != x.dtype):
        raise ValueError(f"the bias must be {x.dtype}[{outputs}], not {bias.dtype}{list(bias.shape)}")
    return None if bias is None else bias.contiguous()


def dense_linear(
    x: Tensor, tensors: Sequence[Tensor], write: Callable[[], Tensor], bias: Tensor | None, activation: str
) -> Tensor:
    """Return `activation(x Wᵀ + bias)` by a dense product with a weight that is written out once, and kept.

    Args:
        x: `[..., K]`.
        tensors: of the format, values first.
        write: writes the weight out, `[N, K]`.
        bias: `[N]`.
        activation: of the layer.
    """
    weight = remembered(("dense", x.shape[-1]), tensors, write)
    return activated(F.linear(x, weight, fitting(bias, weight.shape[0], x)), activation)


def gradients(
    upstream: Tensor,
    x: Tensor,
    values: Tensor,
    activation: str,
    wanted: Sequence[bool],
    *,
    before: Callable[[], Tensor],
    of_x: Callable[[Tensor], Tensor],
    of_values: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of x, of the weight's values and of the bias.

    Args:
        upstream: the gradient of what the layer returned, `[..., N]`.
        x: `[..., K]`.
        values: of the weight. What kernels made of them is forgotten if they get a gradient: they will change.
        activation: of the layer.
        wanted: which of the three are needed.
        before: computes what the layer returns without its activation.
        of_x: computes the gradient of x from the upstream one, `[M, K]` from `[M, N]`.
        of_values: computes that of the values from the upstream one and x, `[M, N]` and `[M, K]`.
    """
    with torch.autocast(upstream.device.type, enabled=False):
        if activation != "none":
            upstream = upstream * derivative(before(), activation)
        rows = upstream.reshape(-1, upstream.shape[-1])
        if wanted[1]:
            forget(values)
        return (
            of_x(rows).view(x.shape) if wanted[0] else None,
            of_values(rows, x.reshape(-1, x.shape[-1])) if wanted[1] else None,
            rows.sum(0) if wanted[2] else None,
        )


def needed(ctx: Any, places: Sequence[int]) -> list[bool]:
    """Return which arguments need gradients; of those that were left out at the end torch knows nothing."""
    known = ctx.needs_input_grad
    return [place < len(known) and known[place] for place in places]


def trimmed(ctx: Any, *found: Tensor | None) -> tuple[Tensor | None, ...]:
    """Return the gradients of the arguments that were given."""
    return found[: len(ctx.needs_input_grad)]
