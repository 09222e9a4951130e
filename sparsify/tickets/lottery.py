"""The lottery: rounds of training, pruning and rewinding, and the controls that tickets must beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from sparsify.batches import epoch_length
from sparsify.cost import cost
from sparsify.masking import masked, unmasked
from sparsify.observation.calibration import Calibration
from sparsify.pass_manager import PassManager
from sparsify.patterns import NofM, parse_pattern
from sparsify.program import Program
from sparsify.pruning.amounts import rounded
from sparsify.pruning.candidates import candidates
from sparsify.pruning.choice import chosen
from sparsify.pruning.weight_masks import Shaper
from sparsify.pruning.weight_scores import weight_scores
from sparsify.schedules import parse_steps
from sparsify.task import Score, Task
from sparsify.tickets.initialization import initial
from sparsify.tickets.lottery_options import Control, LotteryOptions
from sparsify.tickets.ticket import Ticket, without
from sparsify.training.train import Trained
from sparsify.training.work import Work

__all__ = ["Lottery"]

_MARGIN = 0.01  # a ticket wins that is at most one point worse than the dense network


@dataclass(frozen=True)
class _Pruned:
    """A program behind a round of pruning: its masks, and the blocks that are gone."""

    program: Program
    removed: tuple[str, ...] = ()


class Lottery:
    """All rounds of a search for tickets.

    Args:
        options: how to look for them.
        program: the whole network.
        task: data, loss and score.
        seed: of everything random.
        work: trains, and keeps what is done.
    """

    def __init__(self, options: LotteryOptions, program: Program, task: Task, *, seed: int, work: Work) -> None:
        self._options, self._task, self._seed, self._work = options, task, seed, work
        self._whole = program if options.init == "given" else initial(program, seed, options.init)
        self._from = parse_steps(options.rewind, lambda: epoch_length(task))
        self._rounds: list[dict[str, Any]] = []
        self._controls: list[dict[str, Any]] = []
        self._tickets: list[Ticket] = []

    def play(self) -> Trained:
        """Play all rounds.

        Returns:
            The last ticket, trained; its record tells the rounds, the controls and which tickets won.
        """
        plan = self._options
        self._work.expect(self._steps())
        start = self._start()
        trained = None
        if plan.when == "trained":
            trained = self._train("round-0", start)
            self._note(0, trained, _Pruned(start))
        pruned = _Pruned(start)
        for number in range(1, plan.rounds + 1):
            pruned = self._pruned(trained.program if trained else start, pruned, number)
            ticket = self._rewound(pruned, start)
            ticket = initial(ticket, self._seed + 1) if plan.mode == "reinit" else ticket
            trained = self._train(f"round-{number}", ticket if plan.mode in ("rewind", "reinit") else pruned.program)
            self._note(number, trained, pruned)
            self._keep(ticket, pruned, number)
            if plan.controls and (plan.controls_at == "all" or number == plan.rounds):
                for control in plan.controls:
                    self._control(control, pruned, ticket, number)
        assert trained is not None
        record = {"rounds": self._rounds, **({"controls": self._controls} if self._controls else {})}
        return replace(trained, record={**record, **self._verdict()}, tickets=tuple(self._tickets))

    def _steps(self) -> int:
        """Return the number of steps of all trainings."""
        plan = self._options
        controls = len(plan.controls) * (plan.rounds if plan.controls_at == "all" else 1)
        trainings = (plan.when == "trained") + plan.rounds + controls
        length = parse_steps(plan.steps, lambda: epoch_length(self._task))
        return self._from + trainings * (length - self._from)

    def _start(self) -> Program:
        """Return the network at the step to which weights are rewound."""
        if not self._from:
            return self._whole
        early = self._work.train("start", self._whole, self._task, self._options, seed=self._seed, span=(0, self._from))
        return early.program

    def _train(self, name: str, program: Program) -> Trained:
        options, span = self._options, (self._from, None)
        if self._options.mode == "fine-tune" and name.startswith("round-") and name != "round-0":
            options = replace(options, learning_rate=options.learning_rate / 10, schedule="constant", warmup="0it")
        return self._work.train(name, program, self._task, options, seed=self._seed, span=span)

    def _pruned(self, program: Program, before: _Pruned, number: int) -> _Pruned:
        """Prune a program that was trained, or that is to be, up to the share of a round."""
        plan = self._options
        if plan.unit == "layers":
            words = [f"count={plan.count}", f"criterion={plan.criterion}", f"batches={plan.batches}"]
            after, record = self._passed(f"layer-prune:{','.join(words + self._protect())}", program)
            return _Pruned(after, (*before.removed, *record["removed"]))
        if plan.unit == "channels":
            amount = f"sparsity={1 - (1 - plan.rate) ** number!r}"
            scope = "uniform" if plan.scope == "layer" else "global"
            words = [amount, f"criterion={plan.criterion}", f"scope={scope}", f"batches={plan.batches}"]
            return _Pruned(self._passed(f"channel-prune:{','.join(words + self._protect())}", program)[0])
        return _Pruned(masked(program, self._weight_masks(program, number)))

    def _weight_masks(self, program: Program, number: int) -> Mapping[str, Tensor]:
        plan, pattern = self._options, parse_pattern(self._options.pattern)
        last: Literal["prune", "dense"] = "dense" if plan.last == "dense" else "prune"
        found = candidates(program, protect=plan.protect, first=plan.first, last=last)
        layouts = {n: v for n, v in found.layouts.items() if not pattern.reason(program.parameters[n].shape, v)}
        shaper = Shaper(pattern, {name: program.parameters[name].shape for name in layouts}, layouts)
        calibration = Calibration(self._task, plan.batches, self._seed)
        criterion = chosen(plan.criterion, "weights", program, calibration)
        gone = {name: mask for name, mask in program.masks.items() if name in layouts}
        scored = weight_scores(program, list(layouts), criterion, calibration, gone)
        if isinstance(pattern, NofM):
            return shaper.apart(scored, {})
        share = 1 - (1 - plan.rate) ** number
        if plan.scope == "global":
            return shaper.together(scored, rounded(share * sum(map(shaper.size, layouts))))
        rates = {name: plan.rate / 2 if plan.last == "half" and name in found.last else plan.rate for name in layouts}
        counts = {name: rounded((1 - (1 - rate) ** number) * shaper.size(name)) for name, rate in rates.items()}
        return shaper.apart(scored, counts)

    def _rewound(self, pruned: _Pruned, start: Program) -> Program:
        """Return what is left of a pruned program with the weights of the start."""
        return masked(without(start, pruned.removed), pruned.program.masks)

    def _control(self, control: Control, pruned: _Pruned, ticket: Program, number: int) -> None:
        if control == "dense":
            program = self._whole
        elif control == "random" and self._options.unit == "layers":
            words = [f"count={len(pruned.removed)}", "criterion=random", *self._protect()]
            program = self._passed(f"layer-prune:{','.join(words)}", self._whole)[0]
        elif control == "reinit":
            program = initial(ticket, self._seed + 1)
        elif control in ("shuffle", "invert"):  # other places, chosen by the trained weights, with the first weights
            how = f",criterion={self._options.criterion},batches={self._options.batches}" if control == "invert" else ""
            other = self._passed(f"sanity:control={control}{how}", pruned.program)[0]
            program = masked(unmasked(ticket), other.masks)
        else:
            program = self._passed(f"sanity:control={control}", ticket)[0]
        trained = self._train(f"{control}-{number}", program)
        self._controls.append({"control": control, **self._entry(number, trained, program)})
        self._work.log("control", **self._controls[-1])

    def _note(self, number: int, trained: Trained, pruned: _Pruned) -> None:
        self._rounds.append({**self._entry(number, trained, trained.program), "removed": list(pruned.removed)})
        self._work.log("round", **self._rounds[-1])

    def _entry(self, number: int, trained: Trained, program: Program) -> dict[str, Any]:
        known = cost(program)
        dense = cost(self._whole)
        score: Score = self._task.score(trained.program.module(copy=False))
        best = min(trained.curve, key=lambda item: item["validation_loss"], default=None)
        masks = program.masks
        total = sum(mask.numel() for mask in masks.values())
        return {
            "round": number, "score": score.value, "interval": list(score.interval) if score.interval else None,
            "density": sum(int(mask.sum()) for mask in masks.values()) / total if total else 1.0,
            "nonzero": known.nonzero, "nonzero_share": known.nonzero / dense.nonzero,
            "macs": known.macs, "macs_share": known.macs / dense.macs if dense.macs else 1.0,
            "first_steps_to_best": None if best is None else best["step"], "curve": list(trained.curve),
        }  # fmt: skip

    def _keep(self, ticket: Program, pruned: _Pruned, number: int) -> None:
        plan = self._options
        first = plan.init != "given" and not self._from and plan.mode != "reinit"  # the weights that a seed makes
        drawn = {"init": plan.init, "seed": self._seed} if first else None
        record = {
            "task": self._task.name,
            "seed": self._seed,
            **{k: v for k, v in self._rounds[-1].items() if k != "curve"},
        }
        found = Ticket.of(ticket, self._whole, removed=pruned.removed, init=drawn, record=record)
        self._tickets.append(found)
        if self._work.folder is not None:
            found.save(self._work.folder / f"round-{number}.ticket")

    def _verdict(self) -> dict[str, Any]:
        """Say which tickets win: those at most one point worse than the dense network."""
        dense = [
            item for item in (*self._rounds, *self._controls) if item["round"] == 0 or item.get("control") == "dense"
        ]
        if not dense:
            return {}
        bar = dense[0]["score"] - _MARGIN
        return {
            "dense_score": dense[0]["score"], "margin": _MARGIN,
            "winning": [item["round"] for item in self._rounds if item["round"] and item["score"] >= bar],
        }  # fmt: skip

    def _passed(self, spec: str, program: Program) -> tuple[Program, dict[str, Any]]:
        records: list[dict[str, Any]] = []
        manager = PassManager([spec], lambda event: records.append(event.record))
        after = manager.run(program, task=self._task, seed=self._seed)
        return replace(after, history=program.history), records[1]

    def _protect(self) -> list[str]:
        return [f"protect={','.join(self._options.protect)}"] if self._options.protect else []
