"""The pass `lower-index`: masked linear layers hold and read only kept weights, with their columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsify.formats.index import Index
from sparsify.lowering.layerwise import lower
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program

__all__ = ["LowerIndex"]


@dataclass(frozen=True)
class LowerIndex(Pass):
    """Put kept weights and their columns (CSR) in the place of masked matrices; fast where at most a fifth is kept.

    Linear layers, products with a matrix and 1x1 convolutions become `sparsify::index_linear`. What is stored can still
    be trained; the masks are gone, because nothing else is there. ONNX files get dense matrices with zeros again.

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
        return lower(program, context.record, Index.encode, only=self.only, protect=self.protect)
