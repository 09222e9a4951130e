"""Second derivatives: gradients of gradients, where the operators of a model have them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from sparsify.errors import PassError

__all__ = ["second_derivatives"]

_LACKING = re.compile(r"no autograd formula|derivative for .* is not implemented|double backward|differentiable twice")
_NAME = re.compile(r"\w+(?:\.|::)\w+")


@contextmanager
def second_derivatives() -> Iterator[None]:
    """Run a model so that its gradients can be differentiated: attention without fused kernels, which cannot.

    Raises:
        PassError: an operator has no second derivative.
    """
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        try:
            yield
        except RuntimeError as error:
            if not _LACKING.search(str(error)):
                raise
            operator = _NAME.search(str(error))
            raise PassError(
                f"{operator[0] if operator else 'An operator'} has no second derivative. Take a criterion of first "
                "order (snip, taylor, fisher), or a model without it: for experts of transformers, "
                'model.set_experts_implementation("batched_mm") before it is captured.'
            ) from error
