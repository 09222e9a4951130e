"""Early-bird tickets: prune as soon as it no longer changes what would be pruned, and train what is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from sparsify.batches import epoch_length
from sparsify.errors import OptionError
from sparsify.masking import masked
from sparsify.naming import plural
from sparsify.pass_manager import PassManager
from sparsify.program import Program
from sparsify.schedules import parse_steps
from sparsify.spec import canonical
from sparsify.task import Task
from sparsify.tickets.early_masks import Drawing, drawing
from sparsify.tickets.early_options import EarlyOptions
from sparsify.tickets.stability import Stability
from sparsify.tickets.ticket import Ticket
from sparsify.training.penalized import PenalizedTask
from sparsify.training.train import Trained
from sparsify.training.work import Work

__all__ = ["EarlyBird"]


@dataclass(frozen=True)
class EarlyBird(EarlyOptions):
    """Early-bird tickets: search only until the mask is stable, which takes few epochs; then prune and train on.

    Every epoch a mask is drawn; the search ends when the last five agree. The result is what is left, trained for the
    rest of the steps. The ticket has the masks of the whole network, and the weights from which it was trained.

    Attributes:
        steps: length of the whole run, `500it` or `40ep`; what the search leaves of it trains the ticket.

    Reference: You et al., "Drawing Early-Bird Tickets: Towards More Efficient Training of Deep Networks", 2020; Chen et
    al., "EarlyBERT: Efficient BERT Training via Early-bird Lottery Tickets", 2021 (unit=heads); Liu et al., "Learning
    Efficient Convolutional Networks through Network Slimming", 2017 (the penalty).
    """

    finds_ticket: ClassVar[bool] = True

    steps: str = "40ep"

    def retrain(self, program: Program, task: Task, *, seed: int, work: Work) -> Trained:
        """Search, prune, and train what is left."""
        if program.masks:
            raise OptionError(
                "early-bird seeks a ticket in a whole network, and this one has masks. Put the pass shrink before, or "
                "take lth, which goes on from masks."
            )
        steps, every = (parse_steps(text, lambda: epoch_length(task)) for text in (self.steps, self.every))
        if self.window * every > steps:
            raise OptionError(
                f"early-bird: {plural(self.window, 'mask')} every {plural(every, 'step')} take {self.window * every:,} "
                f"steps, and steps={self.steps} is {steps:,}. Give more steps=, or a smaller every= or window=."
            )
        found = drawing(program, task, self, seed)
        searched, watch = self._searched(found, task, every, seed=seed, work=work)
        stop = len(searched.losses)
        if not watch.ended:
            work.warn(self._unstable(watch, steps))
        elif stop == steps and self.weights == "stop":
            work.warn(
                f"The early-bird ticket was found with the last mask, at step {stop:,}: no step is left, and it is not "
                "trained behind that. Give more steps=, a smaller every= or window=, or weights=start."
            )
        begin = found.plain(searched.program) if self.weights == "stop" else program
        ticket = masked(begin, found.masks(searched.program))
        record = self._record(found, searched.program, watch, (stop, steps, every))
        kept = Ticket.of(ticket, program, record={
            "method": canonical("early-bird", self), "task": task.name, "seed": seed,
            **{name: record[name] for name in ("found", "step", "share")},
        })  # fmt: skip
        work.keep("early.ticket", kept.save)
        small = self._shrunk(ticket, seed)
        first = stop if self.weights == "stop" else 0
        trained = work.train("ticket", small, task, self, seed=seed, span=(first, None))
        parts = {"search": searched, "ticket": trained}
        return replace(
            trained,
            losses=(*searched.losses, *trained.losses),
            curve=tuple({**item, "training": name} for name, part in parts.items() for item in part.curve),
            record={"early_bird": record},
            tickets=(kept,),
        )

    def _searched(self, found: Drawing, task: Task, every: int, *, seed: int, work: Work) -> tuple[Trained, Stability]:
        """Train until the masks agree."""
        watch = Stability(
            lambda module: found.mask(found.program.with_state(module)),
            every=every,
            window=self.window,
            distance=self.distance,
            told=lambda entry: work.log("mask", **entry),
        )
        penalized = PenalizedTask(task, found.penalized, self.l1)
        whole = replace(self, compact=False)
        return work.train("search", found.program, penalized, whole, seed=seed, watch=watch), watch

    def _unstable(self, watch: Stability, steps: int) -> str:
        last = watch.masks[-1]["largest"]
        rest = (
            "It is not trained behind that" if self.weights == "stop" else "It is trained from the start all the same"
        )
        return (
            f"No early-bird ticket: in {plural(steps, 'step')} the last {self.window} masks never came nearer to each "
            f"other than {self.distance:g} (at the end they differ in {last:.3f} of their entries). The network is "
            f"pruned by the last mask, at the end. {rest}; more steps=, a larger distance= or a larger l1= may help."
        )

    def _shrunk(self, ticket: Program, seed: int) -> Program:
        """Remove what is masked, where the masks are of whole channels or heads."""
        if not self.shrink or self.unit == "weights":
            return ticket
        return replace(PassManager(["shrink"], asked="early-bird").run(ticket, seed=seed), history=ticket.history)

    def _record(
        self, found: Drawing, trained: Program, watch: Stability, at: tuple[int, int, int]
    ) -> Mapping[str, Any]:
        stop, steps, every = at
        return {
            "unit": self.unit, "found": watch.ended, "step": stop, "mask": stop // every,
            "masks_in_all": steps // every,
            "share": stop / steps, "trained": steps - (stop if self.weights == "stop" else 0),
            "window": self.window, "distance": self.distance, "every": self.every,
            "masks": [dict(entry) for entry in watch.masks], **found.record(trained),
        }  # fmt: skip
