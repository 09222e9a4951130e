"""The pass `mask-zeros`: weights that are zero stay zero in a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsify.errors import PassError, UsageError
from sparsify.masking import masked
from sparsify.naming import plural
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program
from sparsify.pruning.zeros import zero_masks

__all__ = ["MaskZeros"]


@dataclass(frozen=True)
class MaskZeros(Pass):
    """Mask the weights that are zero, for models that were pruned elsewhere: their files have zeros and no masks.

    Without masks a training moves the zeros, and --storage packed stores them. What the model computes stays the same.

    Options:
        least: the fraction of a layer's weights that must be zero; a few zeros are chance, and no mask.
    """

    contract: ClassVar[Contract] = Contract.EXACT

    least: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.least <= 1:
            raise UsageError(f"mask-zeros takes a fraction of a layer's weights as least, not {self.least:g}.")

    def run(self, program: Program, context: Context) -> Program:
        """Find the zeros, and mask them."""
        found = dict(zero_masks(program, self.least))
        if not found:
            raise PassError(f"There is nothing to mask: no layer has {self.least:.0%} of zeros that are not masked.")
        zeros = sum(int((~mask).sum()) for mask in found.values())
        context.record.update(done=f"{zeros:,} zeros of {plural(len(found), 'layer')} masked", masked=list(found))
        return masked(program, found)
