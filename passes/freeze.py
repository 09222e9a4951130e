"""The pass `freeze`: decide which weights a training may still move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from sparsify.errors import PassError, UsageError
from sparsify.freezing import DrawInit, draws, frozen
from sparsify.naming import first_are, plural
from sparsify.norms import norms
from sparsify.observation.calibration import Calibration
from sparsify.pass_manager import Context, Contract, Pass, PassManager
from sparsify.program import Program
from sparsify.pruning.amounts import Allocation
from sparsify.pruning.candidates import candidates
from sparsify.pruning.choice import made
from sparsify.pruning.filter_choice import filter_masks

__all__ = ["Freeze"]


@dataclass(frozen=True)
class Freeze(Pass):
    """Freeze weights: those with the lowest scores stay as they are, and a training moves the others alone.

    The function stays the same, and so does its size; what gets small is what a training changes, and with base=seed
    what a packed file keeps. Biases and norms are trained, and so are embeddings. criterion=fisher is the FISH mask,
    snip on weights drawn anew is FreezeNet, what=filters with criterion=random is Rosenfeld and Tsotsos's.

    Options:
        sparsity: which fraction of the weights (or filters) is frozen.
        what: weights; filters, all weights of an output at once, as many of every layer; norms, everything but the
            scales and shifts of norms.
        criterion: what scores; magnitude for weights and random for filters if it is not said.
        scope: global ranks the weights of all layers together, layer those of each, as in weight-prune.
        allocation: how much of each layer is frozen, likewise.
        base: seed computes what is frozen from a seed instead of keeping it; it must have been drawn by
            `redraw` with the same seed and init.
        seed: of base=seed; the run's if it is not said.
        init: of base=seed, as in `redraw`.
        first: dense trains layers that read the model's inputs as a whole.
        last: dense trains layers whose results are outputs as a whole.
        protect: names or patterns of modules and parameters that are trained as a whole.
        only: likewise, of all that may be frozen.
        batches: how many training batches a criterion that needs data looks at.

    Reference: Wimmer et al., "FreezeNet: Full Performance by Reduced Storage Costs", 2020; Rosenfeld and Tsotsos,
    "Intriguing Properties of Randomly Weighted Networks", 2019; Sung et al., "Training Neural Networks with Fixed
    Sparse Masks", 2021; Frankle et al., "Training BatchNorm and Only BatchNorm", 2020 (norms).
    """

    contract: ClassVar[Contract] = Contract.EXACT

    sparsity: float | None = None
    what: Literal["weights", "filters", "norms"] = "weights"
    criterion: str | None = None
    scope: Literal["global", "layer"] | None = None
    allocation: Allocation | None = None
    base: Literal["stored", "seed"] = "stored"
    seed: int | None = None
    init: DrawInit = "torch"
    first: Literal["prune", "dense"] = "prune"
    last: Literal["prune", "dense"] = "prune"
    protect: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    batches: int = 8

    def __post_init__(self) -> None:
        made(self._criterion)
        if (self.what == "norms") != (self.sparsity is None):
            raise UsageError(
                "freeze needs sparsity=, the fraction of the weights that is frozen; with what=norms, which freezes "
                "everything else, leave it out."
            )
        if self.sparsity is not None and not 0 <= self.sparsity <= 1:
            raise UsageError(f"freeze: sparsity={self.sparsity} is not in [0, 1].")
        if self.batches < 1:
            raise UsageError(f"freeze: batches={self.batches} is less than 1.")
        if self.scope == "global" and self.allocation is not None:
            raise UsageError("freeze: with scope=global the scores allocate; leave out allocation= or scope=.")
        if self.allocation == "table":
            raise UsageError("freeze: allocation=table is of weight-prune; take uniform, erk or another.")
        if self.what == "filters" and (self.scope or self.allocation):
            raise UsageError("freeze: what=filters trains as many of every layer; leave out scope= and allocation=.")
        if self.base == "stored" and (self.seed is not None or self.init != "torch"):
            raise UsageError("freeze: seed= and init= say how base=seed is drawn; add it, or leave them out.")

    @property
    def _criterion(self) -> str:
        return self.criterion or ("random" if self.what == "filters" else "magnitude")

    def run(self, program: Program, context: Context) -> Program:
        """Score, choose what is trained, and freeze the rest."""
        if program.masks or program.frozen:
            names = [*program.masks, *program.frozen]
            raise PassError(f"{first_are(names)} masked or frozen already: freeze takes dense weights.")
        if self.what == "norms":
            return self._only_norms(program, context)
        found = self._masks(program, context)
        masks = {name: found[name] for name in program.parameters if name in found}
        seed = None
        if self.base == "seed":
            seed = context.seed if self.seed is None else self.seed
            self._check_drawn(program, masks, seed)
        context.record.update(_record(masks, seed))
        return frozen(program, masks, seed, self.init)

    def _masks(self, program: Program, context: Context) -> Mapping[str, Tensor]:
        assert self.sparsity is not None
        calibration = Calibration(context.task, self.batches, context.seed)
        if self.what == "filters" or self.sparsity == 1:
            found = candidates(program, protect=self.protect, only=self.only, first=self.first, last=self.last)
            if self.sparsity == 1:
                return {name: torch.zeros_like(program.parameters[name], dtype=torch.bool) for name in found.layouts}
            return filter_masks(program, found.layouts, self._criterion, calibration, self.sparsity)
        words = [f"sparsity={self.sparsity!r}", f"criterion={self._criterion}", "allow_collapse=yes"]
        words += [f"{name}={getattr(self, name)}" for name in ("scope", "allocation") if getattr(self, name)]
        words += [f"{name}={getattr(self, name)}" for name in ("first", "last", "batches")]
        words += [f"{name}={','.join(getattr(self, name))}" for name in ("protect", "only") if getattr(self, name)]
        manager = PassManager([f"weight-prune:{','.join(words)}"], verify=False, asked="choosing what is trained")
        return manager.run(program, task=context.task, seed=context.seed).masks

    def _check_drawn(self, program: Program, masks: Mapping[str, Tensor], seed: int) -> None:
        for name, draw in draws(program, list(masks), self.init).items():
            weight = program.parameters[name].detach()
            drawn = draw(torch.tensor(seed, device=weight.device), name, weight)
            if not torch.equal(drawn[~masks[name]], weight[~masks[name]]):
                raise PassError(
                    f"{name} is not what the seed {seed} and init={self.init} give, so it cannot be computed from "
                    f"them. Put --pass redraw:seed={seed},init={self.init} before it, which draws all weights anew; or "
                    "leave out base=seed, and what is frozen is stored."
                )

    def _only_norms(self, program: Program, context: Context) -> Program:
        found = norms(program)
        names = {name for one in found for name in one}
        if not names:
            raise PassError("what=norms would freeze everything: the model has no norm with a scale or shift.")
        parameters = {
            name: nn.Parameter(value.detach(), requires_grad=name in names)
            for name, value in program.parameters.items()
        }
        trained, all_ = (sum(program.parameters[name].numel() for name in part) for part in (names, parameters))
        context.record.update(
            trainable=trained, frozen=all_ - trained,
            done=f"{trained:,} of {all_:,} parameters are trained: those of {plural(len(found), 'norm')}",
        )  # fmt: skip
        return replace(program, parameters=parameters)


def _record(masks: Mapping[str, Tensor], seed: int | None) -> dict[str, Any]:
    total = sum(mask.numel() for mask in masks.values())
    trained = sum(int(mask.sum()) for mask in masks.values())
    kept = "stored" if seed is None else f"computed from the seed {seed}"
    share = (total - trained) / max(1, total)
    return {
        "weights": total,
        "frozen": total - trained,
        "trainable": trained,
        "base": "stored" if seed is None else "seed",
        "layers": {name: round(1 - float(mask.double().mean()), 6) for name, mask in masks.items()},
        "done": f"{total - trained:,} of {total:,} weights in {plural(len(masks), 'layer')} are frozen ({share:.2%}), "
        f"{kept}; {trained:,} are trained",
    }
