"""parameter: says of a value that a graph computes that it is a parameter of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["parameter"]


def _view(function: Callable[[Tensor, str], Tensor]) -> Any:
    """Return `sparsify::<name>`, an operator of torch whose result lies in the memory of its first argument."""
    name = f"sparsify::{function.__name__}"
    torch.library.define(name, "(Tensor(a) value, str name) -> Tensor(a)", tags=(torch.Tag.pt2_compliant_tag,))
    torch.library.impl(name, "CompositeImplicitAutograd", function)
    return getattr(torch.ops.sparsify, function.__name__).default


@_view
def parameter(value: Tensor, name: str) -> Tensor:
    """Return a value as it is; it is that of the parameter `name`, which the graph computes (`sparsify.embedding`)."""
    return value.view_as(value)
