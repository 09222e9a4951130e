"""The pass `weight-prune`: decide which single weights, N of every M, or tiles of weights go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

from torch import Tensor

from sparsify.allocation import at_least
from sparsify.criteria import Criterion
from sparsify.errors import PassError, UsageError
from sparsify.masking import masked
from sparsify.naming import first_names, plural
from sparsify.norms import with_batch_statistics
from sparsify.observation.calibration import Calibration
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.patterns import NofM, parse_pattern
from sparsify.program import Program
from sparsify.pruning.amounts import Allocation, Amounts, rounded
from sparsify.pruning.candidates import Candidates, First, Last, candidates
from sparsify.pruning.choice import chosen, made
from sparsify.pruning.ranking import Scored
from sparsify.pruning.weight_masks import Shaper
from sparsify.pruning.weight_rounds import in_rounds
from sparsify.schedules import Rounds, sparsities

__all__ = ["WeightPrune"]


@dataclass(frozen=True)
class WeightPrune(Pass):
    """Mask single weights, N of every M, or tiles: exactly as many as asked for, with tiles to the nearest tile.

    Weights of linear layers, convolutions and recurrent layers are pruned; norms, biases and embeddings stay unless
    they are included. The sparsity is that of all weights that may be pruned: what is protected does not count.

    Options:
        sparsity: which fraction of the weights goes (N:M says it itself).
        pattern: unstructured, N:M (2:4 keeps 2 of every 4 along the inputs), or blockBxB (block32x32).
        criterion: what scores the weights; `sparsify criteria` lists them.
        scope: global ranks the weights of all layers together, layer those of each. By default global, but layer where
            allocation is given or scores of different layers do not compare (wanda, obs, inbound).
        allocation: how much of each layer goes: uniform; global, lamp and snip-ratios, as much as a ranking of all
            weights by magnitude, lamp or snip takes; er and erk, by fan-in and fan-out; smart, falling with depth;
            table, from a file. Within a layer the criterion chooses.
        ratios: another criterion that allocates: as much of each layer goes as a ranking of all weights by it takes, in
            its own rounds. criterion=random,ratios=snip keeps random weights, as many of each layer as SNIP.
        table: a file with a sparsity for each layer, or what `sparsify sensitivity` wrote.
        schedule: how the sparsity rises over the rounds.
        rounds: score again so many times on the way; some criteria have a number of their own.
        rate: what goes of the rest in each round of schedule=iterative.
        first: dense leaves out layers that read the model's inputs.
        last: dense leaves out layers whose results are outputs, half prunes them half as much (allocation=uniform).
        protect: names or patterns (`encoder.*`) of modules and parameters that stay.
        only: likewise, of all that may be pruned.
        include: likewise, of norms, biases or embeddings that are pruned too.
        allow_collapse: whether a layer may lose all its weights.
        batches: how many training batches a criterion that needs data looks at.
        norms: what batch norms divide by while weights are scored: running statistics, as in evaluation, or those of
            the batch. Of an untrained network running ones are 0 and 1, so that norms do nothing; code of papers on
            pruning at initialization (SNIP, GraSP, FORCE) scores with batch statistics.

    Reference: Han et al., "Learning both Weights and Connections for Efficient Neural Networks", 2015; Mishra et al.,
    "Accelerating Sparse Deep Neural Networks", 2021 (2:4).
    """

    contract: ClassVar[Contract] = Contract.LOSSY

    sparsity: float | None = None
    pattern: str = "unstructured"
    criterion: str = "magnitude"
    scope: Literal["global", "layer"] | None = None
    allocation: Allocation | None = None
    ratios: str = ""
    table: str = ""
    schedule: Rounds | None = None
    rounds: int | None = None
    rate: float = 0.2
    first: First = "prune"
    last: Last = "prune"
    protect: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    allow_collapse: bool = False
    batches: int = 8
    norms: Literal["running", "batch"] = "running"

    def __post_init__(self) -> None:
        pattern = parse_pattern(self.pattern)
        made(self.criterion)
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise UsageError(f"weight-prune: sparsity={self.sparsity} is not in [0, 1).")
        for name in ("rounds", "batches"):
            if (getattr(self, name) or 1) < 1 or getattr(self, name) == 0:
                raise UsageError(f"weight-prune: {name}={getattr(self, name)} is less than 1.")
        if not 0 < self.rate < 1:
            raise UsageError(f"weight-prune: rate={self.rate} is not between 0 and 1.")
        if isinstance(pattern, NofM):
            self._check_alone(pattern)
        elif (self.allocation == "table") != bool(self.table):
            raise UsageError("weight-prune: allocation=table and table=FILE go together.")
        elif self.sparsity is None and not self.table:
            raise UsageError("weight-prune needs sparsity=, the fraction of the weights that goes.")
        self._check_allocation()
        self._check_rounds()

    def _apart(self) -> bool:
        """Tell whether each layer is ranked by itself."""
        if self.scope is None:
            return self.allocation is not None or bool(self.ratios) or made(self.criterion).per_layer
        return self.scope == "layer"

    def _check_allocation(self) -> None:
        for name in ("allocation", "ratios"):
            if self.scope == "global" and getattr(self, name):
                raise UsageError(f"weight-prune: with scope=global the scores allocate; leave out {name}= or scope=.")
        if self.ratios and self.allocation is not None:
            raise UsageError("weight-prune: allocation= and ratios= both say how much of each layer goes; give one.")
        if self.ratios and made(self.ratios).per_layer:
            raise UsageError(f"weight-prune: ratios={self.ratios}: its scores of different layers do not compare.")
        uniform = self.allocation in (None, "uniform") and not self.ratios and self._apart()
        if self.last == "half" and not uniform:
            raise UsageError("weight-prune: last=half needs allocation=uniform.")

    def _check_rounds(self) -> None:
        if self.schedule in ("one-shot", "iterative") and self.rounds is not None:
            own = "is one round" if self.schedule == "one-shot" else "finds the number of rounds from rate="
            raise UsageError(f"weight-prune: schedule={self.schedule} {own}; leave out rounds=.")
        if self.schedule in ("linear", "cubic", "cosine") and self.rounds is None and made(self.criterion).rounds == 1:
            raise UsageError(f"weight-prune: schedule={self.schedule} needs rounds=, the number of steps.")
        if self.table and self.sparsity is None and (self.rounds or self.schedule):
            raise UsageError("weight-prune: a table of sparsities is reached at once; leave out rounds= and schedule=.")

    def _check_alone(self, pattern: NofM) -> None:
        own = 1 - pattern.n / pattern.m
        if self.sparsity is not None and abs(self.sparsity - own) > 1e-9:
            raise UsageError(f"weight-prune: pattern={self.pattern} is a sparsity of {own:g}, not {self.sparsity:g}.")
        for name in ("scope", "allocation", "ratios", "schedule", "rounds"):
            if getattr(self, name):
                raise UsageError(f"weight-prune: {name}= does not go with pattern={self.pattern}.")
        if self.table or self.last == "half":
            raise UsageError(f"weight-prune: a table or last=half does not go with pattern={self.pattern}.")

    def run(self, program: Program, context: Context) -> Program:
        """Score the weights, choose what goes, and mask it."""
        found = candidates(program, protect=self.protect, only=self.only, include=self.include,
                           first=self.first, last=self.last)  # fmt: skip
        shaper, skipped = self._shaper(program, found)
        calibration = Calibration(context.task, self.batches, context.seed)
        scored = with_batch_statistics(program) if self.norms == "batch" else program
        criterion = chosen(self.criterion, "weights", scored, calibration)
        amounts = Amounts(scored, shaper, found, calibration, self.allocation or "uniform", self.last == "half",
                          self.table, self.ratios)  # fmt: skip
        before = {name: mask for name, mask in program.masks.items() if name in shaper.layouts}
        shares = self._shares(criterion)
        masks = in_rounds(scored, list(shaper.layouts), criterion, calibration, shares=shares,
                          choose=partial(self._masks, amounts))  # fmt: skip
        after = masked(program, masks)
        masks = {name: mask for name, mask in after.masks.items() if name in shaper.layouts}
        self._check_collapse(masks)
        context.record.update(self._record(program, masks, before, skipped, len(shares)))
        unfit = [f"{name} ({reason})" for name, reason in skipped.items() if name not in found.skipped]
        if unfit:
            after = after.noted(f"Not pruned with pattern={self.pattern}: {first_names(unfit)}.")
        return after

    def _shaper(self, program: Program, found: Candidates) -> tuple[Shaper, dict[str, str]]:
        pattern = parse_pattern(self.pattern)
        shapes = {name: program.parameters[name].shape for name in found.layouts}
        reasons = {name: pattern.reason(shapes[name], layout) for name, layout in found.layouts.items()}
        if isinstance(pattern, NofM):
            reasons |= dict.fromkeys(found.several, "layers read it in two directions")
        layouts = {name: layout for name, layout in found.layouts.items() if not reasons[name]}
        skipped = {**found.skipped, **{name: reason for name, reason in reasons.items() if reason}}
        if not layouts:
            name, reason = next((name, reason) for name, reason in reasons.items() if reason)
            raise PassError(f"No layer can have pattern={self.pattern}: of {name}, {reason}.")
        return Shaper(pattern, shapes, layouts), skipped

    def _shares(self, criterion: Criterion) -> list[float | None]:
        """Return the sparsity after each round; None where the pattern or a table says it."""
        if self.sparsity is None or isinstance(parse_pattern(self.pattern), NofM):
            return [None]
        rounds = self.rounds or criterion.rounds
        schedule = self.schedule or ("exponential" if rounds > 1 else "one-shot")
        return [*sparsities(schedule, self.sparsity, rounds, self.rate)]

    def _masks(
        self, amounts: Amounts, scored: Iterable[Scored], share: float | None, gone: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        shaper = amounts.shaper
        if isinstance(shaper.pattern, NofM):
            return shaper.apart(scored, {})
        if self._apart():
            found = amounts.of(share)
            if share is not None:  # where masks already take more of a layer, the others give way
                floors = [int((~gone[name]).sum()) if name in gone else 0 for name in found]
                found = dict(zip(found, at_least(list(found.values()), floors), strict=True))
            return shaper.apart(scored, found)
        return shaper.together(scored, rounded((share or 0.0) * sum(map(shaper.size, shaper.layouts))))

    def _check_collapse(self, masks: Mapping[str, Tensor]) -> None:
        lost = [name for name, mask in masks.items() if not bool(mask.any())]
        if lost and not self.allow_collapse:
            way = "Use" if self._apart() else "Rank each layer by itself (scope=layer), use"
            raise PassError(
                f"{first_names(lost)} would lose all weights: the layer would collapse, and nothing would pass it. "
                f"{way} another allocation (erk, lamp), protect it or ask for less; weight-prune also takes "
                "allow_collapse=yes."
            )

    def _record(
        self,
        program: Program,
        masks: Mapping[str, Tensor],
        before: Mapping[str, Tensor],
        skipped: Mapping[str, str],
        rounds: int,
    ) -> dict[str, Any]:
        gone = {name: int(mask.numel() - mask.count_nonzero()) for name, mask in masks.items()}
        total = sum(mask.numel() for mask in masks.values())
        reached = sum(gone.values()) / max(1, total)
        old = sum(int(mask.numel() - mask.count_nonzero()) for mask in before.values())
        pattern = parse_pattern(self.pattern)
        if isinstance(pattern, NofM):
            more = sum(gone.values()) > rounded((1 - pattern.n / pattern.m) * total)
        else:
            more = old > 0 and sum(gone.values()) > rounded((self.sparsity or 1) * total)
        empty = [name for name, mask in masks.items() if not bool(mask.any())]
        asked: dict[str, Any] = {"pattern": self.pattern} if not self.table else {"table": self.table}
        if self.sparsity is not None:
            asked = {"sparsity": self.sparsity}
        return {
            "asked": asked,
            "reached": reached,
            "weights": total,
            "pruned": sum(gone.values()),
            "of_all_parameters": total / max(1, sum(value.numel() for value in program.parameters.values())),
            "layers": {name: round(count / masks[name].numel(), 6) for name, count in gone.items()},
            "skipped": dict(skipped),
            "scope": "layer" if self._apart() or isinstance(pattern, NofM) else "global",
            "rounds": rounds,
            "mask_bytes": sum(-(-mask.numel() // 8) for mask in masks.values()),
            "done": f"{sum(gone.values()):,} of {total:,} weights in {plural(len(masks), 'layer')} are masked "
            f"({reached:.2%})"
            + (", more than asked for, because of the masks that there were" if more else "")
            + (f"; nothing is left of {first_names(empty)}" if empty else ""),
        }
