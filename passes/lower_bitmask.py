"""The pass `lower-bitmask`: masked linear layers hold one bit for every weight, and the weights that are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsify.formats.bitmask import Bitmask
from sparsify.lowering.layerwise import lower
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program

__all__ = ["LowerBitmask"]


@dataclass(frozen=True)
class LowerBitmask(Pass):
    """Put bits and kept weights in the place of masked matrices: the smallest format from a tenth to nine tenths kept.

    Linear layers, products with a matrix and 1x1 convolutions become `sparsify::bitmask_linear`. What is stored can
    still be trained; the masks are gone, because nothing else is there. ONNX files get dense matrices with zeros again.

    Options:
        only: names or patterns of modules and parameters; others are left out.
        protect: names or patterns of modules and parameters that stay dense.
    """

    contract: ClassVar[Contract] = Contract.EXACT
    lowers: ClassVar[bool] = True

    only: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()

    def run(self, program: Program, context: Context) -> Program:
        """Lower what can be."""
        return lower(program, context.record, Bitmask.encode, only=self.only, protect=self.protect)
