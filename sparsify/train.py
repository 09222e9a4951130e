"""The only training loop: a pure function of a program, a task, options and a seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sparsify.errors import SparsifyError, UsageError
from sparsify.program import Program
from sparsify.schedules import parse_steps, warm
from sparsify.task import Batch, Task

__all__ = [
    "OnStep",
    "StepEvent",
    "TrainOptions",
    "Trained",
    "TrainingError",
    "checked_loss",
    "epoch_length",
    "on_device",
    "train",
]


class TrainingError(SparsifyError):
    """The loss or its gradient is no longer a finite number; the program before the training is untouched."""


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    Attributes:
        steps: length of the run, `500it` or `10ep`.
        learning_rate: its highest value.
        optimizer: sgd (with momentum) or adamw; adamw without weight decay is Adam.
        momentum: of sgd; for adamw β₁, with β₂ = 0.999.
        weight_decay: applied to parameters of two and more dimensions: not to biases and norms.
        schedule: how the learning rate falls after the warm-up.
        warmup: length of the linear rise of the learning rate, `100it` or `1ep`.
        clip: the highest norm of the gradient of all parameters together; longer ones are scaled down to it.

    Raises:
        UsageError: a value is out of its range.
    """

    steps: str = "10ep"
    learning_rate: float = 0.05
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["constant", "linear", "cubic", "cosine"] = "cosine"
    warmup: str = "0it"
    clip: float | None = None

    def __post_init__(self) -> None:
        for text in (self.steps, self.warmup):
            parse_steps(text, 1)
        _require(self.learning_rate > 0, f"learning_rate={self.learning_rate} is not positive")
        _require(0 <= self.momentum < 1, f"momentum={self.momentum} is not in [0, 1)")
        _require(self.weight_decay >= 0, f"weight_decay={self.weight_decay} is negative")
        _require(self.clip is None or self.clip > 0, f"clip={self.clip} is not positive")


@dataclass(frozen=True)
class StepEvent:
    """What a listener learns after a step.

    Attributes:
        step: how many steps are done, from 1 to `steps`.
        steps: in the whole run.
        loss: of the step's batch, before the update.
        learning_rate: of the update.
        gradient_norm: of all parameters together, before clipping.
        module: the live module, to be looked at, not changed; `program.with_state(module)` takes a copy of it.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    gradient_norm: float
    module: nn.Module


OnStep: TypeAlias = Callable[[StepEvent], None]


@dataclass(frozen=True)
class Trained:
    """A trained program and the loss of every step's batch."""

    program: Program
    losses: tuple[float, ...]


def train(
    program: Program, task: Task, options: TrainOptions, *, seed: int = 0, on_step: OnStep | None = None
) -> Trained:
    """Train a program on the device where its parameters are; the program itself is not changed.

    The same program, task, options and seed give the same bits on a CPU (with the same number of threads). Everything
    random in a step comes from the seed and the step's number; torch's global generators are left as they were.

    Raises:
        UsageError: an option does not fit the task, the program has nothing to train, or the task gives no batch.
        TrainingError: the loss or its gradient is not finite.
    """
    steps = parse_steps(options.steps, lambda: epoch_length(task))
    warmup = parse_steps(options.warmup, lambda: epoch_length(task))
    _require(warmup <= steps, f"warmup={options.warmup} is longer than steps={options.steps}")
    module = program.module(training=True)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    _require(bool(parameters), "the program has no trainable parameter")
    optimizer = _optimizer(parameters, options)
    losses: list[float] = []
    device = parameters[0].device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        stream = _stream(task, seed, device)
        for step in range(steps):
            _seed_generators(device, _derived_seed(seed, step, of_epoch=False))
            rate = options.learning_rate * warm(options.schedule, step, steps, warmup)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = checked_loss(task, module, next(stream))
            losses.append(_finite(loss.item(), "loss", step + 1, steps))
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(parameters, options.clip or math.inf).item()
            _finite(norm, "gradient", step + 1, steps)
            optimizer.step()
            optimizer.zero_grad()
            if on_step:
                on_step(StepEvent(step + 1, steps, losses[-1], rate, norm, module))
    return Trained(program.with_state(module), tuple(losses))


def epoch_length(task: Task) -> int:
    """Return the number of training batches in an epoch; counts them when the task does not say."""
    batches: Any = task.batches("train", seed=0)
    try:
        return len(batches)
    except TypeError:
        return sum(1 for _ in batches)


def _optimizer(parameters: list[nn.Parameter], options: TrainOptions) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=options.learning_rate, betas=(options.momentum, 0.999))
    return torch.optim.SGD(groups, lr=options.learning_rate, momentum=options.momentum)


def _stream(task: Task, seed: int, device: torch.device) -> Iterator[Batch]:
    """Yield training batches for ever, every epoch in a new order."""
    for epoch in itertools.count():
        batches = iter(task.batches("train", seed=_derived_seed(seed, epoch, of_epoch=True)))
        first = next(batches, None)
        _require(first is not None, f"the task {task.name} gives no training batch")
        for batch in itertools.chain([first], batches):
            yield on_device(batch, device)


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Return a batch with its tensors on a device."""
    return pytree.tree_map(lambda leaf: leaf.to(device) if hasattr(leaf, "to") else leaf, batch)


def checked_loss(task: Task, module: nn.Module, batch: Batch) -> Tensor:
    """Return the task's loss of a batch.

    Raises:
        UsageError: it is not a scalar tensor, or has no gradient where gradients are recorded.
    """
    loss = task.loss(module, batch)
    if not isinstance(loss, Tensor) or loss.numel() != 1 or (torch.is_grad_enabled() and not loss.requires_grad):
        raise UsageError(f"The loss of the task {task.name} is not a scalar tensor with a gradient.")
    return loss


def _finite(value: float, what: str, step: int, steps: int) -> float:
    if not math.isfinite(value):
        advice = "Try a lower learning_rate, a longer warmup or clip=1."
        raise TrainingError(f"The {what} is {value} at step {step} of {steps}. {advice}")
    return value


def _seed_generators(device: torch.device, seed: int) -> None:
    # Not torch.manual_seed: it reaches for every accelerator there might be, and takes longer than a small step.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _derived_seed(seed: int, index: int, *, of_epoch: bool) -> int:
    """Return the seed of a step or an epoch; those of runs with neighbouring seeds lie far apart.

    It has 32 bits because numpy's seeds do, and a user's task may hand it on.
    """
    return (2 * (seed * 1_000_000_007 + index) + of_epoch) % 2**32


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise UsageError(f"Training: {otherwise}.")
