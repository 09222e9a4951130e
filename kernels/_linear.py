"""What linear layers with sparse weights have in common: their gradients, and how they meet numpy."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from sparsify.kernels._activations import derivative

__all__ = ["gradients", "needed", "through_numpy", "trimmed", "verified"]

_VERIFIED: Any = WeakIdKeyDictionary()


def gradients(
    upstream: Tensor,
    x: Tensor,
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
        activation: of the layer.
        wanted: which of the three are needed.
        before: computes what the layer returns without its activation.
        of_x: computes the gradient of x from the upstream one, `[M, K]` from `[M, N]`.
        of_values: computes that of the values from the upstream one and x, `[M, N]` and `[M, K]`.
    """
    if activation != "none":
        upstream = upstream * derivative(before(), activation)
    rows = upstream.reshape(-1, upstream.shape[-1])
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


def verified(tensors: Sequence[Tensor], inputs: int, check: Callable[[], bool]) -> None:
    """Check once what a format says about places, because a kernel that believed a damaged one would read anywhere.

    Args:
        tensors: what the check looks at; while they are unchanged it is not done again.
        inputs: how many columns there may be.
        check: tells whether all places are inside.

    Raises:
        ValueError: they are not.
    """
    known = _VERIFIED.get(tensors[0])
    tracked = not any(value.is_inference() for value in tensors)  # those have no versions
    if tracked and known is not None and known[0] == inputs:
        pairs = zip(tensors, known[1], strict=True)
        if all(ref() is value and version == value._version for value, (ref, version) in pairs):
            return
    if not check():
        raise ValueError("the stored places do not fit the matrix: the format is damaged, or x has another length")
    if tracked:
        _VERIFIED[tensors[0]] = inputs, [(weakref.ref(value), value._version) for value in tensors]


def through_numpy(products: Callable[..., Any], matrix: Sequence[Tensor], x: Tensor, bias: Tensor | None) -> Tensor:
    """Return what a function of numpy arrays makes of a matrix, the rows of x and a bias, in the shape `[..., N]`.

    Raises:
        ValueError: the bias has another length or type than the outputs: the function would read beyond its end.
    """
    outputs = len(matrix[-1]) - 1
    if bias is not None and (bias.shape != (outputs,) or bias.dtype != x.dtype):
        raise ValueError(f"the bias must be {x.dtype}[{outputs}], not {bias.dtype}{list(bias.shape)}")
    flat = x.reshape(-1, x.shape[-1])
    arrays = [value.contiguous().numpy() for value in (*matrix, flat)]
    row = None if bias is None else bias.contiguous().numpy()
    out = torch.from_numpy(products(*arrays, row, torch.get_num_threads()))
    return out.view(*x.shape[:-1], outputs)
