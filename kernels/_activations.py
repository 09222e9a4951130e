"""Activations that kernels apply to what they return, and their derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["activated", "check", "derivative"]

_KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda z: z,
    "relu": torch.relu,
    "gelu": F.gelu,
    "silu": F.silu,
}


def activated(z: Tensor, activation: str) -> Tensor:
    """Return an activation of a tensor: none, relu, gelu (by the error function) or silu.

    Raises:
        ValueError: there is no such activation.
    """
    check(activation)
    return _KINDS[activation](z)


def check(activation: str) -> None:
    """Check that there is an activation of this name.

    Raises:
        ValueError: there is none.
    """
    if activation not in _KINDS:
        raise ValueError(f"activation={activation!r} is none of {', '.join(_KINDS)}")


def derivative(z: Tensor, activation: str) -> Tensor:
    """Return the derivative of an activation at z, in the type of z."""
    if activation == "relu":
        return (z > 0).to(z.dtype)
    if activation == "silu":
        sigmoid = torch.sigmoid(z)
        return sigmoid * (1 + z * (1 - sigmoid))
    if activation == "gelu":
        density = torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
        return 0.5 * (1 + torch.erf(z / math.sqrt(2))) + z * density
    return torch.ones_like(z)
