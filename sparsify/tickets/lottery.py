"""The lottery: rounds of training, pruning and rewinding, and the controls that tickets must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from sparsify.batches import epoch_length
from sparsify.errors import OptionError, PassError
from sparsify.masking import masked
from sparsify.naming import first_names
from sparsify.observation.calibration import Calibration
from sparsify.patterns import NofM, parse_pattern
from sparsify.program import Program
from sparsify.pruning.amounts import rounded
from sparsify.pruning.candidates import candidates
from sparsify.pruning.choice import chosen
from sparsify.pruning.weight_masks import Shaper
from sparsify.pruning.weight_scores import weight_scores
from sparsify.schedules import parse_steps
from sparsify.spec import canonical
from sparsify.task import Task
from sparsify.tickets.comparison import Comparison, Control
from sparsify.tickets.initialization import Init, initial
from sparsify.tickets.lottery_options import LotteryOptions
from sparsify.tickets.ticket import Ticket, without
from sparsify.tickets.verdict import verdict
from sparsify.training.train import Trained
from sparsify.training.work import Work

__all__ = ["Lottery"]

_FRESH = ("reinit", "random", "small-dense")  # controls with new weights, which are trained from the first step on


@dataclass(frozen=True)
class _Pruned:
    """A program behind a round of pruning: its masks, and the blocks that are gone."""

    program: Program
    removed: tuple[str, ...] = ()


class Lottery:
    """All rounds of a search for tickets.

    Args:
        options: how to look for them.
        program: the whole network, or a ticket to go on with: then rounds prune shares of what it has left.
        task: data, loss and score.
        seed: of everything random.
        work: trains, and keeps what is done.

    Raises:
        OptionError: channels are to be pruned where weights are masked, or weights are rewound to the end.
    """

    def __init__(self, options: LotteryOptions, program: Program, task: Task, *, seed: int, work: Work) -> None:
        self._options, self._task, self._seed, self._work = options, task, seed, work
        if options.unit == "channels" and program.masks:
            raise OptionError(
                "lth: unit=channels counts channels, and those that masks have emptied would be counted again. Put the "
                "pass shrink before, which takes them out."
            )
        self._whole = program if options.init == "given" else initial(program, seed, options.init)
        self._init: Init = "torch" if options.init == "given" else options.init
        self._compare = Comparison("lth", task, seed, self._whole, options.unit, options.criterion, options.batches,
                                   self._init, options.protect)  # fmt: skip
        self._from, self._length = (
            parse_steps(text, lambda: epoch_length(task)) for text in (options.rewind, options.steps)
        )
        if self._from >= self._length:
            raise OptionError(
                f"lth: rewind={options.rewind} is not before the end of the training, steps={options.steps}: nothing "
                "would be trained."
            )
        self._name = "start" if program.masks or program.history else "dense"
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
        pruned, ticket = _Pruned(start), start
        for number in self._numbers:
            pruned = self._pruned(ticket if trained is None or plan.when == "init" else trained.program, pruned, number)
            ticket = self._rewound(pruned, start)
            ticket = initial(ticket, self._seed + 1, self._init) if plan.mode == "reinit" else ticket
            begun = ticket if plan.mode in ("rewind", "reinit") else pruned.program
            trained = self._train(f"round-{number}", begun, fresh=plan.mode == "reinit")
            self._note(number, trained, pruned)
            self._keep(ticket, pruned, number)
            if plan.controls and (plan.controls_at == "all" or number == plan.rounds):
                for control in plan.controls:
                    self._control(control, pruned, ticket, number, start)
        assert trained is not None
        record = {"rounds": self._rounds, **({"controls": self._controls} if self._controls else {})}
        found = verdict(self._rounds, self._controls, plan.margin)
        return replace(trained, record={**record, **found}, tickets=tuple(self._tickets))

    def _steps(self) -> int:
        """Return the number of steps of all trainings."""
        plan, rounds = self._options, len(self._numbers)
        each = rounds if plan.controls_at == "all" else 1
        fresh = each * sum(map(self._is_fresh, plan.controls)) + (rounds if plan.mode == "reinit" else 0)
        trainings = (plan.when == "trained") + rounds + each * len(plan.controls)
        return self._from + trainings * (self._length - self._from) + fresh * self._from

    @property
    def _numbers(self) -> Sequence[int]:
        """The rounds that are played."""
        return [self._options.rounds] if self._options.once else range(1, self._options.rounds + 1)

    def _is_fresh(self, control: Control) -> bool:
        return control == "reinit" or (control in _FRESH and self._options.unit != "layers")

    def _start(self) -> Program:
        """Return the network at the step to which weights are rewound."""
        if not self._from:
            return self._whole
        options = self._fitting(self._whole)
        early = self._work.train("start", self._whole, self._task, options, seed=self._seed, span=(0, self._from))
        return early.program

    def _train(self, name: str, program: Program, *, fresh: bool = False) -> Trained:
        options, span = self._fitting(program), (0 if fresh else self._from, None)
        if self._options.mode == "fine-tune" and name.startswith("round-") and name != "round-0":
            options = replace(options, learning_rate=options.learning_rate / 10, schedule="constant", warmup="0it")
        return self._work.train(name, program, self._task, options, seed=self._seed, span=span)

    def _fitting(self, program: Program) -> LotteryOptions:
        """Return the options of a training: nothing is compact where nothing is masked, as in the dense one."""
        return self._options if program.masks or program.frozen else replace(self._options, compact=False)

    def _pruned(self, program: Program, before: _Pruned, number: int) -> _Pruned:
        """Prune a program that was trained, or that is to be, up to the share of a round."""
        plan = self._options
        if plan.unit == "layers":
            count = plan.count * (number if plan.once else 1)
            words = [f"count={count}", f"criterion={plan.criterion}", f"batches={plan.batches}"]
            words += self._compare.protected()
            after, record = self._compare.passed(f"layer-prune:{','.join(words)}", program)
            return _Pruned(after, (*before.removed, *record["removed"]))
        if plan.unit == "channels":
            amount = f"sparsity={1 - (1 - plan.rate) ** number!r}"
            scope = "uniform" if plan.scope == "layer" else "global"
            words = [amount, f"criterion={plan.criterion}", f"scope={scope}", f"batches={plan.batches}"]
            words += self._compare.protected()
            return _Pruned(self._compare.passed(f"channel-prune:{','.join(words)}", program)[0])
        masks = self._weight_masks(program, number)
        if empty := [name for name, mask in masks.items() if not bool(mask.any())]:
            raise PassError(
                f"lth: nothing would be left of {first_names(empty)} in round {number}. Take fewer rounds or a lower "
                "rate, scope=layer, or protect it."
            )
        return _Pruned(masked(program, masks))

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
        masks = self._whole.masks  # what a ticket that is gone on with has lost already
        lost = {name: int((~masks[name]).sum()) if name in masks else 0 for name in layouts}
        left = {name: shaper.size(name) - lost[name] for name in layouts}
        if plan.scope == "global":
            share = 1 - (1 - plan.rate) ** number
            return shaper.together(scored, sum(lost.values()) + rounded(share * sum(left.values())))
        rates = {name: plan.rate / 2 if plan.last == "half" and name in found.last else plan.rate for name in layouts}
        more = {name: rounded((1 - (1 - rate) ** number) * left[name]) for name, rate in rates.items()}
        return shaper.apart(scored, {name: lost[name] + more[name] for name in layouts})

    def _rewound(self, pruned: _Pruned, start: Program) -> Program:
        """Return what is left of a pruned program with the weights of the start."""
        return masked(without(start, pruned.removed), pruned.program.masks)

    def _control(self, control: Control, pruned: _Pruned, ticket: Program, number: int, start: Program) -> None:
        program = self._compare.control(control, ticket, pruned.program, start=start,
                                        removed=len(pruned.removed))  # fmt: skip
        trained = self._train(f"{control}-{number}", program, fresh=self._is_fresh(control))
        network = self._name if control == "dense" else control
        self._controls.append({"network": network, "control": control, **self._compare.entry(number, trained)})
        self._work.log("control", **self._controls[-1])

    def _note(self, number: int, trained: Trained, pruned: _Pruned) -> None:
        network = "ticket" if number else self._name
        entry = self._compare.entry(number, trained)
        self._rounds.append({"network": network, **entry, "removed": list(pruned.removed)})
        self._work.log("round", **self._rounds[-1])

    def _keep(self, ticket: Program, pruned: _Pruned, number: int) -> None:
        plan = self._options
        first = plan.init != "given" and not self._from and plan.mode != "reinit"  # the weights that a seed makes
        drawn = {"init": plan.init, "seed": self._seed} if first else None
        record = {
            "method": canonical("lth", plan),
            "task": self._task.name,
            "seed": self._seed,
            **{k: v for k, v in self._rounds[-1].items() if k not in ("curve", "network")},
        }
        found = Ticket.of(ticket, self._whole, removed=pruned.removed, init=drawn, record=record)
        self._tickets.append(found)
        self._work.keep(f"round-{number}.ticket", found.save)
