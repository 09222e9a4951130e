"""The pass `share-weights`: the weights of a layer take few different values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sparsify.coding.codebook import codebook
from sparsify.coding.huffman import coded_bits, entropy
from sparsify.errors import PassError, UsageError
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program
from sparsify.pruning.candidates import candidates

__all__ = ["ShareWeights"]

_FAR = 256  # a longer way to the next kept weight is written as several


@dataclass(frozen=True)
class ShareWeights(Pass):
    """Let the weights of each layer share 2^bits values: each becomes the mean of its cluster.

    Masked weights stay masked, and are in no cluster. Nothing is smaller or faster by that alone: a file that holds
    the places of the values instead of the weights would be. The report estimates its size; no such file is written.
    Training afterwards moves the weights apart again.

    Options:
        bits: of the number of a value: 5 for 32 different ones.
        protect: names or patterns of modules and parameters that keep their weights.
        only: likewise, of all that may change.
        include: likewise, of norms, biases or embeddings that share too.

    Reference: Han et al., "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization and
    Huffman Coding", 2016.
    """

    contract: ClassVar[Contract] = Contract.LOSSY

    bits: int = 5
    protect: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    include: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16:
            raise UsageError(f"share-weights: bits={self.bits} is not between 1 and 16.")

    def run(self, program: Program, context: Context) -> Program:
        """Cluster the weights layer by layer."""
        found = candidates(program, protect=self.protect, only=self.only, include=self.include)
        parameters, masks = dict(program.parameters), program.masks
        known: dict[str, dict[str, Any]] = {}
        for name in found.layouts:
            old = parameters[name]
            if not bool(torch.isfinite(old).all()):
                raise PassError(f"{name} is not finite.")
            value, known[name] = self._shared(old.detach(), masks.get(name))
            parameters[name] = nn.Parameter(value, requires_grad=old.requires_grad)
        dense = {name: value.numel() * value.element_size() for name, value in _stored(program).items()}
        coded = sum(known[name]["estimated_bytes"] if name in known else size for name, size in dense.items())
        context.record.update(
            done=f"the weights of {len(known)} layers share values; coded they would take about {coded:,} bytes "
            f"of {sum(dense.values()):,}",
            layers=known,
            skipped=dict(found.skipped),
            dense_file_bytes=sum(dense.values()),
            estimated_file_bytes=coded,
        )
        return replace(program, parameters=parameters)

    def _shared(self, weight: Tensor, mask: Tensor | None) -> tuple[Tensor, dict[str, Any]]:
        """Return the weight with shared values, and what the report says of it."""
        kept = torch.ones_like(weight, dtype=torch.bool) if mask is None else mask
        values = weight[kept]
        if not len(values):
            return weight, {"centres": 0, "estimated_bytes": 0}
        centres, labels = codebook(values, 2**self.bits)
        shared = weight.clone()
        shared[kept] = centres[labels].to(weight.dtype)
        counts = torch.bincount(labels).tolist()
        moved = (shared[kept].double() - values.double()).square().sum() / values.double().square().sum()
        bits = coded_bits(counts)
        places = _place_bits(kept)
        table = len(centres) * (weight.element_size() + 1)  # every value, and the length of its code word
        return shared, {
            "centres": len(centres),
            "relative_rms_error": float(moved.nan_to_num().sqrt()),
            "entropy_bits": entropy(counts),
            "huffman_bits": bits / len(values),
            "estimated_bytes": table + -(-bits // 8) + (_FAR + 1 + -(-places // 8) if places else 0),
        }


def _stored(program: Program) -> dict[str, Tensor]:
    """Return what a file holds of a program: all tensors but masks, which are written with their weights."""
    masks = {id(mask) for mask in program.masks.values()}
    buffers = {name: value for name, value in program.buffers.items() if id(value) not in masks}
    return {**program.parameters, **{n: value for n, value in buffers.items() if n not in program.transient}}


def _place_bits(kept: Tensor) -> int:
    """Return how many bits a Huffman code of the ways from each kept weight to the next takes; 0 if all are kept."""
    if bool(kept.all()):
        return 0
    places = kept.flatten().nonzero().flatten()
    ways = places.diff(prepend=places.new_full((1,), -1)) - 1
    steps = torch.bincount(ways % _FAR, minlength=_FAR).tolist()
    return coded_bits([*steps, int((ways // _FAR).sum())])
