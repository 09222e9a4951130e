"""Logits: what a task needs of a model's output, whatever the output is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sparsify.errors import UsageError

__all__ = ["logits_of"]


def logits_of(output: Any, dims: str) -> Tensor:
    """Return the logits of a model that returns them alone, first in a tuple, under `logits`, or as `.logits`.

    Args:
        output: of the model.
        dims: of the logits, for counting and for the message, such as `batch, classes`.

    Raises:
        UsageError: there are none, or they have another number of dimensions.
    """
    found = output
    if isinstance(found, (tuple, list)) and not hasattr(found, "logits"):
        found = found[0] if found else None
    if isinstance(found, Mapping):
        found = found.get("logits", found)
    found = getattr(found, "logits", found)
    if not isinstance(found, Tensor) or found.ndim != dims.count(",") + 1:
        what = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UsageError(
            f"The model must return logits [{dims}] (alone, first in a tuple, or as .logits); it returned {what}."
        )
    return found
