"""The pass `redraw`: draw all weights anew from a seed, so that they need not be kept where they stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsify.errors import PassError
from sparsify.freezing import DrawInit, redrawn
from sparsify.layers import layers
from sparsify.naming import plural
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program

__all__ = ["Redraw"]


@dataclass(frozen=True)
class Redraw(Pass):
    """Draw the weights of all layers anew from a 32-bit seed, the same bits on every machine; training starts again.

    Vectors that scale become one, other vectors zero; running statistics start again, masks stay. Behind it
    `freeze:base=seed` need not keep what it freezes.

    Options:
        seed: of 32 bits; the run's if it is not said.
        init: torch (uniform within 1/√fan-in), kaiming (normal, 2/fan-in), xavier (uniform within
            √(6/(fan-in + fan-out))), or sign (±√(2/fan-in)).

    Reference: He et al., "Delving Deep into Rectifiers", 2015; Glorot and Bengio, "Understanding the Difficulty of
    Training Deep Feedforward Neural Networks", 2010; Ramanujan et al., "What's Hidden in a Randomly Weighted Neural
    Network?", 2020 (sign).
    """

    contract: ClassVar[Contract] = Contract.LOSSY

    seed: int | None = None
    init: DrawInit = "torch"

    def run(self, program: Program, context: Context) -> Program:
        """Draw."""
        seed = context.seed if self.seed is None else self.seed
        known = {layer.parameter for layer in layers(program) if program.parameters[layer.parameter].ndim > 1}
        if not known:
            raise PassError("The weights of layers are drawn anew, and this model has none.")
        context.record["done"] = f"the weights of {plural(len(known), 'layer')} are drawn anew from the seed {seed}"
        return redrawn(program, seed, self.init)
