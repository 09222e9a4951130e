"""The pass `lower-block`: linear layers whose masks are tiles hold and compute only the tiles that are not empty."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsify.errors import UsageError
from sparsify.formats.block import BlockRows
from sparsify.lowering.layerwise import lower
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.patterns import Block, parse_pattern
from sparsify.program import Program

__all__ = ["LowerBlock"]


@dataclass(frozen=True)
class LowerBlock(Pass):
    """Put the tiles that are not empty (BSR) in the place of masked matrices; training gets cheaper with them, too.

    Linear layers, products with a matrix and 1x1 convolutions become `sparsify::block_linear`. All of a tile is stored
    and can be trained, also what the mask did not keep of it. ONNX files get dense matrices with zeros again.

    Options:
        pattern: size of the tiles.
        fill: the least share of the stored weights that the mask must keep; else a layer is left out.
        only: names or patterns of modules and parameters; others are left out.
        protect: names or patterns of modules and parameters that stay dense.
    """

    contract: ClassVar[Contract] = Contract.EXACT
    lowers: ClassVar[bool] = True

    pattern: str = "block64"
    fill: float = 0.5
    only: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(parse_pattern(self.pattern), Block):
            raise UsageError(f"lower-block: pattern={self.pattern} is no size of tiles, such as block64 or block32x64.")
        if not 0 <= self.fill <= 1:
            raise UsageError(f"lower-block: fill={self.fill} is not in [0, 1].")

    def run(self, program: Program, context: Context) -> Program:
        """Lower what can be."""
        pattern = parse_pattern(self.pattern)
        assert isinstance(pattern, Block)

        def encode(weight: Tensor, mask: Tensor) -> BlockRows | str:
            found = BlockRows.encode(weight, mask, pattern.rows, pattern.columns)
            filled = int(mask.sum()) / max(1, math.prod(found.values.shape))
            if filled < self.fill:
                return f"its mask is not made of {self.pattern}: of what the tiles hold only {filled:.0%} is kept"
            return found

        return lower(program, context.record, encode, only=self.only, protect=self.protect)
