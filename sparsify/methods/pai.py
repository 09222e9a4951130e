"""Pruning at initialization: decide before the training what is kept, and train only that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeAlias

from sparsify.batches import epoch_length
from sparsify.errors import OptionError, UsageError
from sparsify.naming import first_names
from sparsify.pass_manager import PassManager
from sparsify.program import Program
from sparsify.pruning.amounts import rounded
from sparsify.pruning.choice import made
from sparsify.schedules import parse_steps
from sparsify.spec import canonical
from sparsify.task import Task
from sparsify.tickets.comparison import Comparison, Control, Unit
from sparsify.tickets.initialization import initial
from sparsify.tickets.ticket import Ticket
from sparsify.tickets.verdict import verdict
from sparsify.training.train import Trained
from sparsify.training.train_options import TrainOptions
from sparsify.training.work import Work

__all__ = ["Pai"]

Start: TypeAlias = Literal["given", "torch", "kaiming", "xavier", "shuffle"]
Share: TypeAlias = Literal["uniform", "global", "lamp", "snip-ratios", "er", "erk", "smart"]

_PASSES: Mapping[Unit, str] = {"weights": "weight-prune", "channels": "channel-prune", "layers": "layer-prune"}
_TAKEN: Mapping[Unit, tuple[str, ...]] = {  # by the passes, in their own words
    "weights": ("sparsity", "pattern", "scope", "allocation", "ratios", "rounds", "first", "last", "only", "norms"),
    "channels": ("sparsity", "scope", "rounds"),
    "layers": ("sparsity", "count"),
}


@dataclass(frozen=True)
class Pai(TrainOptions):
    """Score the untrained network, prune it once to an exact count, and train what is left.

    The masks stay as they are during the training. Criteria with rounds of their own, such as synflow (100), force and
    iterative-snip (60) or snip-it (5), are asked again in each. Random masks are criterion=random with allocation=erk,
    allocation=smart, or with the share of every layer that another criterion would keep: ratios=snip.

    Attributes:
        steps: length of the training, `500it` or `10ep`.
        criterion: what decides: snip, grasp, synflow, force, magnitude, random, ...; `sparsify criteria` lists them.
        sparsity: which fraction of the weights, channels or layers goes.
        count: how many layers go, one unless it is said (unit=layers).
        unit: what goes: single weights, channels, or layers (residual blocks).
        pattern: of weights: unstructured, N:M (2:4 says the sparsity itself), or blockBxB.
        scope: global ranks all layers together, layer each by itself; what the criterion allows unless it is said.
        allocation: how much of each layer goes, instead of what a ranking of all says; as in weight-prune.
        ratios: a criterion that says it instead: as much of each layer goes as it would take.
        rounds: score again so many times on the way, instead of the criterion's own number.
        first: dense leaves out layers that read the model's inputs.
        last: dense leaves out layers whose results are outputs.
        protect: names or patterns of what stays.
        only: names or patterns of modules and parameters, of all that may be pruned.
        init: how weights are drawn before everything; given keeps those of the program.
        controls: networks that the result must beat, trained alike: reinit (its places, new weights), random (as many
            in random places, new weights; of layers the first weights), shuffle and invert (other places, the first
            weights; invert keeps what scores lowest in each layer), small-dense (as many in narrower layers, new
            weights), dense.
        margin: how much worse than another network one may score that is said to be as good.
        batches: how many training batches a criterion that needs data looks at.
        norms: what batch norms divide by while weights are scored: running statistics (0 and 1 in an untrained network,
            so that norms do nothing), or those of the batch, as the code of SNIP, GraSP and FORCE has it.

    Reference: Lee et al., "SNIP: Single-shot Network Pruning based on Connection Sensitivity", 2019; Frankle et al.,
    "Pruning Neural Networks at Initialization: Why Are We Missing the Mark?", 2021 (controls); Su et al.,
    "Sanity-Checking Pruning Methods", 2020 (smart ratios); Liu et al., "The Unreasonable Effectiveness of Random
    Pruning", 2022 (ratios); Jordao et al., "When Layers Play the Lottery", 2023 (layers).

    Raises:
        UsageError: a value is out of its range, or does not fit what is pruned.
    """

    finds_ticket: ClassVar[bool] = True

    steps: str = "20ep"
    criterion: str = "snip"
    sparsity: float | None = None
    count: int | None = None
    unit: Unit = "weights"
    pattern: str = "unstructured"
    scope: Literal["global", "layer"] | None = None
    allocation: Share | None = None
    ratios: str = ""
    rounds: int | None = None
    first: Literal["prune", "dense"] = "prune"
    last: Literal["prune", "dense"] = "prune"
    protect: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    init: Start = "given"
    controls: tuple[Control, ...] = ()
    margin: float = 0.01
    batches: int = 8
    norms: Literal["running", "batch"] = "running"

    def __post_init__(self) -> None:
        super().__post_init__()
        taken, default = _TAKEN[self.unit], type(self)
        for name in dict.fromkeys(name for names in _TAKEN.values() for name in names):
            if name not in taken and getattr(self, name) != getattr(default, name):
                units = " and ".join(f"unit={unit}" for unit, names in _TAKEN.items() if name in names)
                raise UsageError(f"pai: {name}= is for {units}, not for unit={self.unit}.")
        if self.unit == "channels" and self.sparsity is None:
            raise UsageError("pai needs sparsity=, the fraction of the channels that goes.")
        other = [name for name in self.controls if name not in ("reinit", "random", "dense")]
        if self.unit == "layers" and other:
            raise UsageError(f"pai: controls={','.join(other)} are not for layers; take reinit, random or dense.")
        if not (self.margin >= 0 and math.isfinite(self.margin)):
            raise UsageError(f"pai: margin={self.margin} is not a number of at least 0.")
        spec = self._spec()
        try:
            PassManager([spec])
        except UsageError as error:  # the pass has these options by the same names
            raise type(error)(str(error).replace(_PASSES[self.unit], "pai")) from error

    def retrain(self, program: Program, task: Task, *, seed: int, work: Work) -> Trained:
        """Prune, train, and train the controls.

        Raises:
            OptionError: channels are to be pruned where weights are masked.
            PassError: the criterion or the pass that prunes refuses.
        """
        if self.unit == "channels" and program.masks:
            raise OptionError(
                "pai: unit=channels counts channels, and those that masks have emptied would be counted again. Put the "
                "pass shrink before, which takes them out."
            )
        start = program if self.init == "given" else initial(program, seed, self.init)
        drawn = "torch" if self.init == "given" else self.init
        compare = Comparison("pai", task, seed, start, self.unit, self.criterion, self.batches, drawn, self.protect)
        pruned, did = compare.passed(self._spec(), start)
        record = self._kept(pruned, did)
        self._warn(record, work)
        work.expect(parse_steps(self.steps, lambda: epoch_length(task)) * (1 + len(self.controls)))
        trained = work.train("ticket", pruned, task, self, seed=seed)
        if self.controls:
            record |= self._compared(compare, trained, pruned, start=start, removed=record["removed"], work=work)
        found = self._ticket(pruned, start, compare, record)
        if found is not None:
            work.keep("pai.ticket", found.save)
        return replace(trained, record=record, tickets=() if found is None else (found,))

    def _spec(self) -> str:
        """Return the spec of the pass that prunes."""
        given = {name: getattr(self, name) for name in (*_TAKEN[self.unit], "protect", "criterion", "batches")}
        if self.unit == "channels":
            scope = "uniform" if self.scope == "layer" else "global"
            given.update(scope=scope, rounds=self.rounds or made(self.criterion).rounds)
        elif self.unit == "weights":
            given["allow_collapse"] = "yes"  # it is a result, which is told
        default = type(self)
        words = []
        for name, value in given.items():
            if value not in (None, "", ()) and (name == "criterion" or value != getattr(default, name, None)):
                words.append(f"{name}={','.join(value) if isinstance(value, tuple) else value}")
        return f"{_PASSES[self.unit]}:{','.join(words)}"

    def _kept(self, pruned: Program, did: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is left, in all and of each layer."""
        scored = did["layers"] if self.unit == "weights" else pruned.masks
        names = [name for name in pruned.parameters if name in scored]
        layers = {name: {"kept": int(pruned.masks[name].sum()), "weights": pruned.masks[name].numel()}
                  for name in names}  # fmt: skip
        kept, weights = (sum(item[key] for item in layers.values()) for key in ("kept", "weights"))
        exact = self.unit == "weights" and self.sparsity is not None
        rounds = did["rounds"] if self.unit == "weights" else self.rounds or made(self.criterion).rounds
        return {
            "criterion": self.criterion, "unit": self.unit, "kept": kept, "masked_weights": weights,
            "wanted": weights - rounded((self.sparsity or 0.0) * weights) if exact else None,
            "layers": layers, "empty": [name for name, item in layers.items() if not item["kept"]],
            "removed": list(did.get("removed", ())), "groups": dict(did.get("groups", {})),
            "scored": 1 if self.unit == "layers" else rounds,
        }  # fmt: skip

    def _warn(self, record: Mapping[str, Any], work: Work) -> None:
        if record["empty"]:
            work.warn(
                f"Layer collapse: criterion={self.criterion} keeps nothing of {first_names(record['empty'])}, so that "
                "no signal passes there. allocation=erk, scope=layer, a lower sparsity= or protect= keep layers alive."
            )

    def _compared(
        self, compare: Comparison, trained: Trained, pruned: Program, *, start: Program, removed: list[str], work: Work
    ) -> dict[str, Any]:
        """Train the controls; return the entries of all networks and the verdict."""
        ticket = {"network": "ticket", **compare.entry(1, trained), "removed": removed}
        work.log("round", **ticket)
        others = []
        for name in self.controls:
            program = compare.control(name, pruned, pruned, start=start, removed=len(removed))
            options = self if program.masks or program.frozen else replace(self, compact=False)
            done = work.train(name, program, compare.task, options, seed=compare.seed)
            others.append({"network": name, "control": name, **compare.entry(1, done)})
            work.log("control", **others[-1])
        return {"rounds": [ticket], "controls": others, **verdict([ticket], others, self.margin)}

    def _ticket(self, pruned: Program, start: Program, compare: Comparison, record: Mapping[str, Any]) -> Ticket | None:
        """Return the ticket; there is none where channels were removed at once, which no mask can say."""
        whole = start.parameters
        if any(value.shape != whole[name].shape for name, value in pruned.parameters.items()):
            return None
        drawn = None if self.init == "given" else {"init": self.init, "seed": compare.seed}
        known = {"method": canonical("pai", self), "task": compare.task.name, "seed": compare.seed,
                 **{key: record[key] for key in ("criterion", "kept", "masked_weights", "removed")}}  # fmt: skip
        return Ticket.of(pruned, start, removed=tuple(record["removed"]), init=drawn, record=known)
