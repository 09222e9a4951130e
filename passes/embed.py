"""The pass `embed`: weights are made of fewer values, which are trained instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from sparsify import verify
from sparsify.embedding import embedded_names
from sparsify.embeddings.dct import dct
from sparsify.embeddings.interspace import Basis, interspace
from sparsify.embeddings.projection import projection
from sparsify.errors import UsageError
from sparsify.naming import plural
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program
from sparsify.pruning.candidates import candidates

__all__ = ["Embed"]

_TAKES = {
    "interspace": ("share", "basis"),
    "dct": ("sparsity", "allocation"),
    "projection": ("share", "dimension"),
}
_NEEDS = {"dct": "sparsity", "projection": "dimension"}


@dataclass(frozen=True)
class Embed(Pass):
    """Make weights of other, mostly fewer values, Θ = Ψ(ϑ): training moves ϑ, and `fold` writes Θ out.

    interspace: filters are coefficients on a basis of filters, and both are trained; weight-prune and dst prune the
    coefficients. dct: weights are cosines that are never stored, times one trained number, plus a few trained weights
    at random places; the weights that there were are given up. projection: weights are what they were plus a trained
    step in a random subspace, which a seed says. The first and the last leave the function as it is.

    Options:
        kind: how weights are made.
        share: all is one basis for all filters of a size, or one projection of all weights; layer, one for each.
        basis: of interspace, where it starts: standard, so that coefficients are the weights, or random orthonormal.
        sparsity: of dct, which fraction of the weights is not trained.
        allocation: of dct, how much of each layer is trained.
        dimension: of projection, how many values are trained.
        protect: names or patterns of modules and parameters that stay.
        only: likewise, of all that may change.
        include: likewise, of norms, biases or embeddings that are made, too.

    Reference: Wimmer et al., "Interspace Pruning", 2022; Price and Tanner, "Dense for the Price of Sparse", 2021; Li et
    al., "Measuring the Intrinsic Dimension of Objective Landscapes", 2018.
    """

    contract: ClassVar[Contract] = Contract.LOSSY

    kind: Literal["interspace", "dct", "projection"]
    share: Literal["all", "layer"] | None = None
    basis: Basis | None = None
    sparsity: float | None = None
    allocation: Literal["uniform", "erk"] | None = None
    dimension: int | None = None
    protect: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    include: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("share", "basis", "sparsity", "allocation", "dimension"):
            takers = [kind for kind, taken in _TAKES.items() if name in taken]
            if getattr(self, name) is not None and self.kind not in takers:
                take = "take" if len(takers) > 1 else "takes"
                raise UsageError(f"embed: kind={self.kind} has no {name}; {' and '.join(takers)} {take} it.")
        needed = _NEEDS.get(self.kind)
        if needed is not None and getattr(self, needed) is None:
            raise UsageError(f"embed: kind={self.kind} needs {needed}=.")
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise UsageError(f"embed: sparsity={self.sparsity} is not in [0, 1).")
        if self.dimension is not None and self.dimension < 1:
            raise UsageError(f"embed: dimension={self.dimension} is less than 1.")

    def run(self, program: Program, context: Context) -> Program:
        """Put what makes the weights into the graph."""
        layouts = candidates(program, protect=self.protect, only=self.only, include=self.include).layouts
        shared = self.share != "layer"
        if self.kind == "interspace":
            after = interspace(program, layouts, basis=self.basis or "standard", shared=shared, seed=context.seed)
        elif self.kind == "dct":
            assert self.sparsity is not None
            after = dct(program, layouts, sparsity=self.sparsity, allocation=self.allocation or "erk",
                        seed=context.seed)  # fmt: skip
        else:
            assert self.dimension is not None
            after = projection(program, list(layouts), self.dimension, shared=shared, seed=context.seed)
        if self.kind != "dct":
            context.proofs.append(lambda: verify.equivalent(program, after, seed=context.seed))
        context.record.update(_told(program, after, self.kind))
        return after


def _told(program: Program, after: Program, kind: str) -> dict[str, Any]:
    """Return what the report says: how many weights are made of how many values, and what is kept of them."""
    known = set(embedded_names(program))
    made = [name for name in embedded_names(after) if name not in known]
    total = sum(program.parameters[name].numel() for name in made)
    rest = sum(_trained(program, name) for name in program.parameters if name not in made)
    trained = sum(_trained(after, name) for name in after.parameters) - rest
    start = [after.buffers[name] for name in after.buffers.keys() - program.buffers.keys() if name.endswith("_start")]
    size = sum(value.numel() * value.element_size() for value in start)
    stored = ["these"]
    stored += [f"a bit for each of {total:,} weights"] if kind == "dct" else []
    stored += [f"the weights at the start ({size:,} bytes)"] if start else []
    stored += ["a seed"] if kind != "interspace" else []
    return {
        "done": f"{total:,} weights of {plural(len(made), 'layer')} are made of {trained:,} trained values; stored: "
        f"{', '.join(stored)}",
        "embedded": made,
        "weights": total,
        "trained": trained,
        "start_bytes": size,
    }


def _trained(program: Program, name: str) -> int:
    """Return how many values of a parameter can change: those that no mask hides."""
    mask = program.masks.get(name)
    return program.parameters[name].numel() if mask is None else int(mask.sum())
