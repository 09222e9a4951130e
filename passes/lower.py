"""The pass `lower`: every masked layer in the format in which it is fastest, or dense where dense is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from sparsify.errors import UsageError
from sparsify.formats import Format
from sparsify.lowering.choosing import Choice, fastest, smallest, whole
from sparsify.lowering.layerwise import chosen_sites, described, nothing_to_lower
from sparsify.lowering.rewriting import lowered
from sparsify.lowering.sites import Site
from sparsify.masking import baked
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program

__all__ = ["Lower"]


@dataclass(frozen=True)
class Lower(Pass):
    """Put every masked layer in the format in which it is fastest here; where dense is as fast it stays dense.

    Layers are measured on what the program's example gives them, in turns with the dense layer: linear layers,
    products with a matrix, and convolutions, as products with the patches of their images. Tried are index, bitmask,
    2:4 and tiles, if the mask fits. A GPU also chooses among its kernels, and remembers. At the end the whole model is
    measured; if it is not faster it stays dense. What stays dense has zeros in its weights and no masks any more, which
    would cost time; a retraining in the same run comes before.

    Options:
        by: what decides: the time of a layer here, or the bytes of its weight.
        batch: how many examples a batch has when it is measured; as many as the program's example if not given.
        only: names or patterns of modules and parameters; others are left out.
        protect: names or patterns of modules and parameters that stay dense.
    """

    contract: ClassVar[Contract] = Contract.EXACT
    lowers: ClassVar[bool] = True

    by: Literal["time", "bytes"] = "time"
    batch: int | None = None
    only: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.batch is not None and self.by == "bytes":
            raise UsageError("lower: by=bytes measures no batch.")
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"lower: batch={self.batch} is no size of a batch.")

    def run(self, program: Program, context: Context) -> Program:
        """Lower what gets faster."""
        sites, skipped = chosen_sites(program, self.only, self.protect, patches=True)
        if not sites:
            raise nothing_to_lower(program, skipped)
        if self.by == "time":
            choices = dict(fastest(program, sites, self.batch))
        else:
            choices = {site: smallest(site, program) for site in sites}
        formats: dict[Site, Format] = {
            site: found.format for site, found in choices.items() if found.format is not None
        }
        context.record.update(self._told(program, choices, skipped))
        dense = baked(program)
        if not formats:
            return dense
        found = baked(lowered(program, formats))
        return found if self.by == "bytes" or self._pays(dense, found, context.record) else dense

    def _pays(self, dense: Program, found: Program, record: dict[str, Any]) -> bool:
        """Measure the whole model: layers that are faster alone may be slower among others."""
        record["model_ms"] = times = whole(dense, found, self.batch)
        gain = times["dense"] / times["lowered"]
        record["done"] += (
            f"; the model: {gain:.2f}x" if gain >= 1 else f"; the model is no faster ({gain:.2f}x): it stays dense"
        )
        return gain >= 1

    def _told(self, program: Program, choices: dict[Site, Choice], skipped: dict[str, str]) -> dict[str, Any]:
        measured = "ms" if self.by == "time" else "sizes"
        told: dict[str, Any] = {}
        for site, choice in choices.items():
            told[site.name] = {"format": choice.kind, measured: {k: round(v, 4) for k, v in choice.measured.items()}}
            if choice.format is not None:
                weight, mask = program.parameters[site.name], program.masks[site.name]
                told[site.name] |= described(weight, mask, choice.format)
        kinds = Counter(choice.kind for choice in choices.values())
        counts = ", ".join(f"{kind} x{count}" for kind, count in kinds.most_common())
        if self.by == "bytes":
            before = sum(choice.measured["dense"] for choice in choices.values())
            after = sum(choice.measured[choice.kind] for choice in choices.values())
            counts += f"; all these layers together: {after / before:.0%} of the bytes"
        return {"choices": told, "skipped": skipped, "done": counts}
