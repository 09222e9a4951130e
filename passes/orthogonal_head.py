"""The pass `orthogonal-head`: classify by fixed orthogonal directions, of which a training moves the length alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sparsify.embedding import Embedding, embedded
from sparsify.heads import head
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program

__all__ = ["OrthogonalHead"]


@dataclass(frozen=True)
class OrthogonalHead(Pass):
    """Put fixed orthogonal directions times one trained temperature in the place of the last layer's weight.

    The weight is α Q with Q `[classes, features]` of rows of length one; α starts at the mean length of the rows that
    were there, the bias stays and is trained. Retrain behind it: the features must learn where their classes lie.
    Features are not normalised, as the paper has it; networks that need it should do it themselves.

    Options:
        matrix: hadamard (signs of the same size: the first rows and columns of a Sylvester matrix, orthogonal where
            the features are a power of two) or orthonormal (random, by the run's seed; rows are orthogonal where there
            are as many features as classes).
        layer: the weight or its module, where the model has several last layers.

    Reference: Hoffer et al., "Fix Your Classifier: The Marginal Value of Training the Last Weight Layer", 2018.
    """

    contract: ClassVar[Contract] = Contract.LOSSY

    matrix: Literal["hadamard", "orthonormal"] = "hadamard"
    layer: str = ""

    def run(self, program: Program, context: Context) -> Program:
        """Replace the weight."""
        found = head(program, self.layer)
        name = found.parameter
        weight = program.parameters[name].detach()
        before = found.layout.matrices(weight)
        classes, features = before.shape[1:]
        if self.matrix == "hadamard":
            rows = _hadamard(max(classes, features))[:classes, :features] / features**0.5
        else:
            rows = _orthonormal(classes, features, torch.Generator().manual_seed(context.seed))
        fixed = found.layout.restore(rows.to(weight.device, weight.dtype)[None], weight.shape).contiguous()
        length = before.norm(dim=2).mean().reshape(1)
        context.record.update(
            trainable=1,
            done=f"{name} is {classes} fixed directions of {features} features; their length {float(length):.3g} "
            "is trained",
        )
        made = Embedding(torch.mul, (f"{name}_temperature", f"{name}_fixed"))
        return embedded(
            program,
            {name: made},
            trainable={f"{name}_temperature": length.to(weight.dtype)},
            fixed={f"{name}_fixed": fixed},
        )


def _hadamard(least: int) -> Tensor:
    """Return a Sylvester matrix of at least so many rows: signs, rows orthogonal to each other."""
    found = torch.ones(1, 1)
    while len(found) < least:
        found = torch.cat([torch.cat([found, found], 1), torch.cat([found, -found], 1)])
    return found


def _orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Return rows of length one that are orthogonal, as far as there are enough columns for that."""
    drawn = torch.randn(max(rows, columns), min(rows, columns), generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(drawn).Q
    found = basis.T if rows <= columns else basis
    unit: Tensor = found / found.norm(dim=1, keepdim=True)
    return unit.float()
