"""Several trainings in one: the weights of each seed are a slice of stacked ones, and vmap runs them all at once.

Small networks leave a processor waiting for Python between operators; one operator for all seeds has more to do. Where
that is faster is measured (`together_pays`), and where it is possible at all is tried, on a few steps.

Reference: PyTorch's model ensembling with torch.func (stack_module_state, functional_call, vmap).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from sparsify.program import Program
from sparsify.schedules import warm
from sparsify.task import Batch, Task
from sparsify.training.mask_controller import MaskController
from sparsify.training.randomness import generators_restored
from sparsify.training.train import Run, Trained
from sparsify.training.train_options import TrainOptions

__all__ = ["CannotTogether", "together_pays", "train_together"]

_STEPS = 5  # of the trial, the first of which only warms up
_LARGEST = 4_000_000  # trained values of all seeds together; with more the processor has enough to do, memory counts
_PAYS = 0.9  # of the time of single trainings; what is closer is noise
_CLOSE = 1e-3  # relative, of losses in the first steps: sums in another order differ by 1e-6 or so, and the gap grows


class CannotTogether(Exception):  # noqa: N818 -- not a failure: the trainings are done one by one
    """These trainings cannot be one; the text says why."""


def train_together(
    programs: Sequence[Program], task: Task, options: TrainOptions, seeds: Sequence[int]
) -> list[Trained]:
    """Train programs of the same graph and sizes at once, each with its own values, masks, seed and batches.

    Each result is that of `train` with its seed, up to the order in which sums are taken. Nothing is kept on the way.

    Raises:
        CannotTogether: the options, the programs, the task or the batches do not allow it, or a loss is not finite.
    """
    with generators_restored(_device(programs[0])):
        together = _Together(programs, task, options, seeds)
        for step in range(together.steps):
            together.step(step)
        return together.results()


def together_pays(program: Program, task: Task, options: TrainOptions, seeds: Sequence[int]) -> tuple[bool, str]:
    """Return whether training a program with these seeds at once is faster than one by one, and what was found.

    A few steps are done both ways. Where the losses differ, as with a task that draws something random outside of its
    batches, the answer is no.
    """
    sizes = sum(value.numel() for value in program.parameters.values() if value.requires_grad)
    if sizes * len(seeds) > _LARGEST:
        return False, "the networks are large"
    try:
        with generators_restored(_device(program)):
            both = _Together([program] * len(seeds), task, options, seeds)
            if both.steps < _STEPS:
                return False, "the training is short"
            many = _fastest(both.step)
            alone = _One(program, task, options, seeds[0])
            stream = alone.stream(0)
            one = _fastest(lambda step: alone.step(step, next(stream)))
    except CannotTogether as error:
        return False, str(error)
    if not all(map(_close, both.runs[0].losses, alone.losses)):
        return False, "the losses are not those of single trainings"
    found = f"{len(seeds) * one / many:.2f} times as fast as one by one"
    return many < _PAYS * len(seeds) * one, found


def _fastest(step: Callable[[int], object]) -> float:
    """Return the seconds of the fastest of a few steps: what else runs on the machine makes others slower."""
    seconds = []
    for index in range(_STEPS):
        started = time.perf_counter()
        step(index)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def _close(one: float, two: float) -> bool:
    return math.isclose(one, two, rel_tol=_CLOSE, abs_tol=1e-5)


def _device(program: Program) -> torch.device:
    return next(iter(program.parameters.values())).device


class _Loss(nn.Module):
    """The task's loss of a module as a module, whose parameters functional_call replaces."""

    def __init__(self, network: nn.Module, task: Task) -> None:
        super().__init__()
        self.network, self._task = network, task

    def forward(self, batch: Batch) -> Tensor:
        return self._task.loss(self.network, batch)


class _One(Run):
    """One of the trainings: it has the batches, the masks, the learning rate and the result; others do its steps."""

    @property
    def module(self) -> nn.Module:
        return self._module

    @property
    def masks(self) -> Mapping[str, Tensor]:
        masks = self._sparse.masks
        assert isinstance(masks, Mapping)  # those of compact trainings are refused
        return masks

    @property
    def losses(self) -> list[float]:
        return self._losses

    def learning_rate(self, step: int) -> float:
        return self._options.learning_rate * warm(self._options.schedule, step, self.steps, self._warmup)

    @torch.no_grad()
    def learn(self, values: Mapping[str, Tensor]) -> None:
        for name, value in _tensors(self._module).items():
            value.copy_(values[name])


class _Together:
    """Trainings in progress, one slice of every tensor for each."""

    def __init__(self, programs: Sequence[Program], task: Task, options: TrainOptions, seeds: Sequence[int]) -> None:
        _check(programs, options)
        self.runs = [_One(program, task, options, seed) for program, seed in zip(programs, seeds, strict=True)]
        first = self.runs[0]
        self.steps = first.steps
        self._streams = [run.stream(0) for run in self.runs]
        self._loss = _Loss(first.module, task)
        values = [_tensors(run.module) for run in self.runs]
        self._stacked = {name: _stacked([each[name] for each in values]) for name in values[0]}
        self._optimizer = _optimizer(options, first, self._stacked)
        if first.masks:
            masks = {name: torch.stack([run.masks[name] for run in self.runs]) for name in first.masks}
            MaskController(masks).attach(self._optimizer)

    def step(self, step: int) -> None:
        """Do one step of all of them."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.runs[0].learning_rate(step)
        batch = _stacked_batch([next(stream) for stream in self._streams])
        known = {f"network.{name}": value for name, value in self._stacked.items()}
        try:
            losses = torch.vmap(lambda state, one: functional_call(self._loss, state, (one,)))(known, batch)
            losses.sum().backward()
        except Exception as error:
            raise CannotTogether(f"{type(error).__name__}: {error}") from error
        found = losses.detach().tolist()
        if not all(map(math.isfinite, found)):
            raise CannotTogether(f"a loss is not finite at step {step + 1}")
        self._optimizer.step()
        self._optimizer.zero_grad()
        for run, loss in zip(self.runs, found, strict=True):
            run.losses.append(loss)

    def results(self) -> list[Trained]:
        """Return what each has learned."""
        self._optimizer.state.clear()
        for index, run in enumerate(self.runs):
            run.learn({name: value[index] for name, value in self._stacked.items()})
            if not all(bool(parameter.isfinite().all()) for parameter in run.parameters):
                raise CannotTogether("a weight is not finite at the end")
        return [run.result() for run in self.runs]


def _check(programs: Sequence[Program], options: TrainOptions) -> None:
    """Refuse what a single training does and this one does not."""
    default = TrainOptions()
    for name in ("clip", "precision", "compile", "audit", "compact"):
        if getattr(options, name) != getattr(default, name):
            raise CannotTogether(f"{name}={getattr(options, name)} is for single trainings")
    if not options.score_every.startswith("0"):
        raise CannotTogether(f"score_every={options.score_every} is for single trainings")
    if len({_form(program) for program in programs}) > 1:
        raise CannotTogether("the passes have made different networks")


def _form(program: Program) -> tuple[object, ...]:
    """Return what must be the same of all: the graph, and what is trained."""
    parameters = ((name, tuple(value.shape), value.requires_grad) for name, value in program.parameters.items())
    buffers = ((name, tuple(value.shape)) for name, value in program.buffers.items())
    return str(program), tuple(parameters), tuple(buffers)


def _stacked(values: Sequence[Tensor]) -> Tensor:
    stacked = torch.stack([value.detach() for value in values])
    if not values[0].requires_grad:
        return stacked
    made = nn.Parameter(stacked)
    if (name := getattr(values[0], "sparsify_name", None)) is not None:
        made.__dict__["sparsify_name"] = name  # by which masks find it
    return made


def _optimizer(options: TrainOptions, run: _One, stacked: Mapping[str, Tensor]) -> torch.optim.Optimizer:
    """Return the optimizer of a single training, whose groups are by dimensions, with the stacked parameters in it."""
    made = options.make_optimizer(run.parameters)
    names = {id(parameter): name for name, parameter in run.module.named_parameters()}
    for group in made.param_groups:
        group["params"] = [stacked[names[id(parameter)]] for parameter in group["params"]]
    return made


def _stacked_batch(batches: Sequence[Batch]) -> Batch:
    leaves, forms = zip(*(pytree.tree_flatten(batch) for batch in batches), strict=True)
    if any(form != forms[0] for form in forms) or not all(isinstance(leaf, Tensor) for leaf in leaves[0]):
        raise CannotTogether("a batch is not of tensors alone")
    if any(one.shape != other.shape for each in leaves for one, other in zip(each, leaves[0], strict=True)):
        raise CannotTogether("batches of different seeds have different sizes")
    stacked = [torch.stack(parts) for parts in zip(*leaves, strict=True)]
    return pytree.tree_unflatten(stacked, forms[0])


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
