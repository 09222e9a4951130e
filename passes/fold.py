"""The pass `fold`: parameters that the graph makes of others are written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsify.embedding import embedded_names, folded
from sparsify.errors import PassError
from sparsify.masking import baked
from sparsify.naming import plural
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program

__all__ = ["Fold"]


@dataclass(frozen=True)
class Fold(Pass):
    """Write embedded and masked parameters out: each is a dense parameter of its own name again.

    Options:
        masks: whether masks become zeros, too; no leaves those of weights that nothing makes.
    """

    contract: ClassVar[Contract] = Contract.EXACT

    masks: bool = True

    def run(self, program: Program, context: Context) -> Program:
        """Compute the parameters, and put them in the place of what made them."""
        made, hidden = embedded_names(program), program.masks
        if not made and not (hidden and self.masks):
            raise PassError("There is nothing to fold: no parameter is embedded or masked.")
        after = folded(program)
        left = after.masks
        if self.masks:
            after = baked(after)
        parts = [f"{plural(len(made), 'parameter')} written out"] if made else []
        parts += [f"{plural(len(left), 'mask')} became zeros"] if left and self.masks else []
        context.record.update(done=" and ".join(parts), written_out=list(made), zeros=list(left) if self.masks else [])
        return after
