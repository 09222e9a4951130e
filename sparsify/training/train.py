"""The only training loop: a pure function of a program, a task, options and a seed."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn

from sparsify.batches import checked_loss, epoch_length, given_batches, of_task, on_device
from sparsify.errors import InputError, OptionError, SparsifyError, UsageError
from sparsify.mask_updates import MaskUpdate
from sparsify.parallel.strategy import Parallel
from sparsify.parallel.tensors import local, whole, write
from sparsify.program import Program
from sparsify.schedules import parse_steps, warm
from sparsify.task import Batch, Task
from sparsify.training.checkpoints import Checkpoints
from sparsify.training.compact import CompactTraining
from sparsify.training.interruption import passed_on, waiting
from sparsify.training.randomness import derived_seed, generators_restored, seed_generators
from sparsify.training.sparse_training import Exchange, SparseTraining
from sparsify.training.train_options import TrainOptions, load_optimizer
from sparsify.training.watch import OnStep, StepEvent, Watch

__all__ = ["Run", "Trained", "TrainingError", "train"]


class TrainingError(SparsifyError):
    """The loss or its gradient is no longer a finite number; the program before the training is untouched."""


@dataclass(frozen=True)
class Trained:
    """A trained program.

    Attributes:
        program: with the masks of the end.
        losses: of every step's batch.
        curve: what was measured on the way: `step`, `score`, `validation_loss`, and `density` where there are masks.
        updates: how often a rule changed the masks.
        exchanges: what it did to them; of very many updates, some.
        itop: which share of the masked weights was kept at some time.
        record: what a method tells besides, for reports.
        tickets: that a method found, the last one last.
    """

    program: Program
    losses: tuple[float, ...]
    curve: tuple[dict[str, Any], ...] = ()
    updates: int = 0
    exchanges: tuple[Exchange, ...] = ()
    itop: float | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    tickets: tuple[Any, ...] = ()


def train(
    program: Program,
    task: Task,
    options: TrainOptions,
    *,
    seed: int = 0,
    on_step: OnStep | None = None,
    rule: MaskUpdate | None = None,
    span: tuple[int, int | None] = (0, None),
    checkpoints: Checkpoints | None = None,
    watch: Watch | None = None,
    parallel: Parallel | None = None,
) -> Trained:
    """Train a program on the device where its parameters are; the program itself is not changed.

    The same program, task, options and seed give the same bits on a CPU (with the same number of threads), whether
    the run was interrupted or not. Everything random in a step comes from the seed and the step's number; torch's
    global generators are left as they were. Pruned weights stay exactly zero.

    Args:
        program: what to train; its masks are kept, or updated by the rule.
        task: data and loss.
        options: how to train.
        seed: of the order of the data and of all else that is random.
        on_step: called after every step.
        rule: updates the masks.
        span: the first step and, if it is not that of the options, the one behind the last: part of a run, with its
            data and learning rates.
        checkpoints: where the run is kept; it goes on from the last of them.
        watch: looks at every step, and may end the run.
        parallel: how the run is spread over several processes, which all call this with the same arguments.

    Raises:
        UsageError: an option does not fit (OptionError), the program has nothing to train, or the task gives no batch.
        TrainingError: the loss or its gradient is not finite; the state before that step is a checkpoint, if its
            parameters are.
        InputError: a checkpoint cannot be written.
        KeyboardInterrupt: of Ctrl-C; with checkpoints the step under way is ended first, and its state is one.
    """
    spread = parallel or Parallel()
    run = Run(program, task, options, seed, rule=rule, parallel=spread)
    run.watch = watch
    first, last = span
    device = run.parameters[0].device
    last = run.steps if last is None else min(last, run.steps)
    wanted = checkpoints is not None
    agreed = spread.any if wanted else Parallel().any  # where nothing is kept there is nothing to agree on
    with generators_restored(device), waiting(wanted, patient=spread.kind is not None) as interrupted:
        step = run.restore(checkpoints, first)
        stream = run.stream(step)
        while step < last and not (watch and watch.ended):
            with passed_on(interrupted):
                batch = run.next_batch(stream, step)
            if not agreed(interrupted())[0]:
                with passed_on(interrupted, KeyboardInterrupt), spread.guarded():
                    event = run.step(step, batch) if checkpoints is None else run.careful_step(step, batch, checkpoints)
                step += 1
                if watch:
                    watch.look(event)
                if on_step:
                    on_step(event)
            stopped, due = agreed(interrupted(), checkpoints is not None and checkpoints.due())
            if checkpoints is not None and (step == last or stopped or due):
                checkpoints.save(step, run.state(step))
            if stopped:
                raise KeyboardInterrupt
    return run.result()


class Run:
    """A training in progress: everything that a checkpoint keeps."""

    def __init__(
        self,
        program: Program,
        task: Task,
        options: TrainOptions,
        seed: int,
        *,
        rule: MaskUpdate | None = None,
        parallel: Parallel | None = None,
    ) -> None:
        self._task, self._options, self._seed, self._parallel = task, options, seed, parallel or Parallel()
        self.watch: Watch | None = None
        self._epoch = functools.cache(lambda: epoch_length(task))
        self.steps = parse_steps(options.steps, self._epoch)
        self._warmup = parse_steps(options.warmup, self._epoch)
        self._score_every = parse_steps(options.score_every, self._epoch)
        if self._warmup > self.steps:
            raise OptionError(f"Training: warmup={options.warmup} is longer than steps={options.steps}.")
        training = CompactTraining if options.compact else SparseTraining
        self._sparse = training(program, rule, seed, audit=options.audit)
        self._module = self._sparse.module(self._parallel.module)
        self.parameters = [parameter for parameter in self._module.parameters() if parameter.requires_grad]
        _require(bool(self.parameters), "the program has no trainable parameter")
        self._device = self.parameters[0].device
        self._autocast = options.autocast(self._device)
        self._optimizer = options.make_optimizer(self.parameters)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=options.precision == "fp16")
        self._sparse.attach(self._module, self._optimizer)
        called = self._parallel.called(self._module)
        self._called = cast(nn.Module, torch.compile(called)) if options.compile else called
        self._losses: list[float] = []
        self._curve: list[dict[str, Any]] = []

    def step(self, step: int, batch: Batch) -> StepEvent:
        """Do one step."""
        options, steps = self._options, self.steps
        known, empty = len(self._sparse.exchanges), len(self._sparse.emptied)
        rank = self._parallel.ranks.rank
        seed_generators(self._device, derived_seed(self._seed, step, of_epoch=False, rank=rank))
        rate = options.learning_rate * warm(options.schedule, step, steps, self._warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        with self._autocast, self._sparse.forward():
            share = self._parallel.share(batch, getattr(self._task, "count", None))
            loss = checked_loss(self._task, self._called, share)
        self._losses.append(_finite(self._parallel.of_batch(loss.item(), step + 1), "loss", step + 1, steps))
        self._scaler.scale(self._parallel.scaled(loss)).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self._optimizer)
        checked = not self._scaler.is_enabled()  # else it skips the step, and scales less
        if checked and self._sparse.looks(step, steps):  # a rule may act on what it sees
            _finite(self._norm(), "gradient", step + 1, steps)
        replaced = self._sparse.before_step(step, steps, rate)
        self._sparse.mask_gradients()
        norm = self._norm() if options.clip is None else self._clipped(options.clip)
        if checked:
            _finite(norm, "gradient", step + 1, steps)
        if not replaced:
            self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        self._sparse.after_step(step + 1, steps, rate)
        if options.audit:
            masks = self._sparse.masks
            self._parallel.audit(self._module, masks if isinstance(masks, Mapping) else {}, step + 1)
        if self._score_every and ((step + 1) % self._score_every == 0 or step + 1 == steps):
            self._curve.append({"step": step + 1, **self._measured()})
        last = self._curve[-1] if self._curve else None
        return StepEvent(
            step + 1, steps, self._losses[-1], rate, norm, self._module, self._sparse.density,
            score=last["score"] if last else None,
            measured=last if last and last["step"] == step + 1 else None,
            exchange=self._sparse.exchanges[-1] if len(self._sparse.exchanges) > known else None,
            emptied=tuple(self._sparse.emptied[empty:]),
            steps_done=step + 1, steps_of_all=steps,
        )  # fmt: skip

    def careful_step(self, step: int, batch: Batch, checkpoints: Checkpoints) -> StepEvent:
        """Do one step; when it fails, the state before it becomes a checkpoint, unless that is bad already."""
        buffers, losses = dict(self._module.named_buffers()), len(self._losses)
        before = {name: value.clone() for name, value in buffers.items()}  # a forward pass may change them
        try:
            return self.step(step, batch)
        except TrainingError:
            for name, value in buffers.items():
                value.copy_(before[name])
            del self._losses[losses:]
            bad = any(not bool(local(parameter).isfinite().all()) for parameter in self.parameters)
            if not self._parallel.any(bad)[0]:
                with contextlib.suppress(InputError):  # the error of the training is the one to be told
                    checkpoints.save(step, self.state(step))
            raise

    def _norm(self) -> float:
        """Return the norm of the gradients of all parameters together."""
        return whole(nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])).item()

    def _clipped(self, limit: float) -> float:
        """Clip the gradients; return the norm of all before."""
        return whole(nn.utils.clip_grad_norm_(self.parameters, limit)).item()

    def stream(self, step: int) -> Iterator[Batch]:
        """Yield the training batches from a step on, for ever, every epoch in a new order."""
        length = self._epoch() if step else 1
        epoch, skip = divmod(step, max(1, length))
        for number in itertools.count(epoch):
            batches = given_batches(self._task, "train", derived_seed(self._seed, number, of_epoch=True))
            first = next(batches, None)
            _require(first is not None, f"the task {self._task.name} gives no training batch")
            for batch in itertools.islice(itertools.chain([first], batches), skip, None):
                yield on_device(batch, self._device)
            skip = 0

    def next_batch(self, stream: Iterator[Batch], step: int) -> Batch:
        """Return the batch of a step; what it draws from global generators is the same in all processes."""
        seed_generators(self._device, derived_seed(self._seed, step, of_epoch=False, rank=-1))
        return next(stream)

    def state(self, step: int) -> dict[str, Any]:
        """Return what is needed to go on behind a step."""
        return {
            "step": step, "module": dict(self._module.named_parameters()), "optimizer": self._optimizer.state_dict(),
            "buffers": dict(self._module.named_buffers()), "watch": self.watch.state() if self.watch else None,
            "scaler": self._scaler.state_dict(), "sparse": self._sparse.state(),
            "losses": torch.tensor(self._losses, dtype=torch.float64), "curve": list(self._curve),
        }  # fmt: skip

    def restore(self, checkpoints: Checkpoints | None, first: int) -> int:
        """Go on from the last checkpoint, if there is one; return the step to do next."""
        state = checkpoints.load() if checkpoints is not None else None
        if state is None:
            return first
        write(state["module"], dict(self._module.named_parameters()))
        write(state["buffers"], dict(self._module.named_buffers()))
        load_optimizer(self._optimizer, state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self._sparse.load_state(state["sparse"])
        self._losses, self._curve = state["losses"].tolist(), state["curve"]
        if self.watch:
            self.watch.load_state(state["watch"])
        return int(state["step"])

    def result(self) -> Trained:
        """Return what there is now; nothing is trained any more."""
        self._optimizer.state.clear()  # it makes room for what comes out, if that is larger than what was trained
        program = self._sparse.result(self._module)
        itop = self._sparse.itop if program.masks else None
        sparse = self._sparse
        return Trained(program, tuple(self._losses), tuple(self._curve), sparse.updates, tuple(sparse.exchanges), itop)

    def _measured(self) -> dict[str, Any]:
        """Measure the score and the validation loss, and leave everything random as it was."""
        self._module.eval()
        with torch.no_grad(), torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            losses = [float(checked_loss(self._task, self._module, on_device(batch, self._device)))
                      for batch in given_batches(self._task, "validation")]  # fmt: skip
            _require(bool(losses), f"the task {self._task.name} gives no validation batch, and score_every= needs some")
            with of_task(self._task, "score the model"):
                score = self._task.score(self._module).value
        self._module.train()
        found = self._parallel.ranks.led(lambda: {"score": score, "validation_loss": sum(losses) / len(losses)})
        return {**found, "density": self._sparse.density} if self._sparse.masks else found


def _finite(value: float, what: str, step: int, steps: int) -> float:
    if not math.isfinite(value):
        advice = "Try a lower learning_rate, a longer warmup or clip=1."
        raise TrainingError(f"The {what} is {value} at step {step} of {steps}. {advice}")
    return value


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise UsageError(f"Training: {otherwise}.")
