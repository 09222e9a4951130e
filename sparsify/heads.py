"""Heads: the last layer of a network, that which turns features into the logits of classes."""

from __future__ import annotations

from collections.abc import Mapping

from sparsify.errors import PassError
from sparsify.layers import Layer, layers
from sparsify.naming import first_names
from sparsify.program import Program
from sparsify.pruning.candidates import candidates, check_patterns, matches

__all__ = ["head"]


def head(program: Program, name: str = "") -> Layer:
    """Return the last layer: one product with a matrix, whose weight nothing else reads and no mask hides.

    Args:
        program: where.
        name: of the weight or its module, where there are several last layers.

    Raises:
        PassError: there are none or several of this name, or it is something else; or an embedding is read there, too.
    """
    found = candidates(program)
    last = [weight for weight in sorted(found.last) if not name or matches(weight, (name,))]
    if not found.last:
        _check_tied(found.skipped, program)
    if name:
        check_patterns("layer", (name,), program)
    named = "" if not name else f" called {name}"
    if len(last) != 1:
        there = f"there are {first_names(last)}" if last else "there is none"
        raise PassError(
            f"One last layer{named} is needed, whose results are outputs, and {there}. Name it with layer=."
        )
    (weight,) = last
    read = [layer for layer in layers(program) if layer.parameter == weight]
    if weight in program.masks or weight in program.frozen:
        raise PassError(f"{weight}, the last layer, is masked or frozen. Put this pass before that.")
    if len(read) != 1 or read[0].rows is None or program.parameters[weight].ndim != 2:
        raise PassError(f"{weight} is no linear layer of its own, read once, but {len(read)} of another kind.")
    return read[0]


def _check_tied(skipped: Mapping[str, str], program: Program) -> None:
    tied = [layer.parameter for layer in layers(program) if "embedding" in skipped.get(layer.parameter, "")]
    if tied:
        raise PassError(
            f"The last layer is tied with the embedding: both read {tied[0]}, so it has no weight of its own that this "
            "pass could change. Give the model a head of its own (tie_word_embeddings=False) and capture it again."
        )
