"""The pass `lower-nm`: linear layers with N:M masks hold N of every M weights and their places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.errors import UsageError
from sparsify.formats.nm import Nm
from sparsify.lowering.layerwise import lower
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.patterns import NofM, parse_pattern
from sparsify.program import Program

__all__ = ["LowerNm"]


@dataclass(frozen=True)
class LowerNm(Pass):
    """Put N of every M weights and their places in the place of masked matrices.

    Linear layers, products with a matrix and 1x1 convolutions become `sparsify::nm_linear`. A group with fewer weights
    is filled up with zeros, which can be trained, too. ONNX files get dense matrices with zeros again, which runtimes
    that know 2:4 recognise.

    Options:
        pattern: N:M; layers whose masks keep more of a group are left out.
        only: names or patterns of modules and parameters; others are left out.
        protect: names or patterns of modules and parameters that stay dense.
    """

    contract: ClassVar[Contract] = Contract.EXACT
    lowers: ClassVar[bool] = True

    pattern: str = "2:4"
    only: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        pattern = parse_pattern(self.pattern)
        if not isinstance(pattern, NofM) or pattern.m > 256:
            raise UsageError(f"lower-nm: pattern={self.pattern} is not N:M with M of at most 256, such as 2:4.")

    def run(self, program: Program, context: Context) -> Program:
        """Lower what can be."""
        pattern = parse_pattern(self.pattern)
        assert isinstance(pattern, NofM)

        def encode(weight: Tensor, mask: Tensor) -> Nm | str:
            try:
                return Nm.encode(weight, mask, pattern.n, pattern.m)
            except ValueError as error:
                return str(error)

        return lower(program, context.record, encode, only=self.only, protect=self.protect)
