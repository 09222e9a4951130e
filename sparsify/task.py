"""Task: the user's data, loss and score, the only way in which their code enters training and measuring."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast, runtime_checkable

from sparsify import registry
from sparsify.errors import UsageError
from sparsify.spec import nearest
from sparsify.user_code import load_object, make

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Batch", "Score", "Split", "Task", "accuracy", "example_inputs", "mean_score", "resolve"]

Batch: TypeAlias = Any
Split: TypeAlias = Literal["train", "validation"]

_PACKAGE = "sparsify.tasks"
_Z_95 = 1.959964  # of the normal distribution: 95% lie within this many deviations


@dataclass(frozen=True)
class Score:
    """How good a model is; higher is better.

    Attributes:
        value: such as an accuracy in [0, 1].
        name: of the quantity.
        n: how many examples it was measured on.
        interval: where the true value lies with 95% confidence, or None when that is not known.
    """

    value: float
    name: str
    n: int
    interval: tuple[float, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, as JSON has them."""
        interval = None if self.interval is None else list(self.interval)
        return {"value": self.value, "name": self.name, "n": self.n, "interval": interval}

    def __str__(self) -> str:
        """Return such as `accuracy 0.9778 (0.9596 to 0.9879, n = 450)`."""
        low_high = f"{self.interval[0]:.4f} to {self.interval[1]:.4f}, " if self.interval else ""
        return f"{self.name} {self.value:.4f} ({low_high}n = {self.n})"


@runtime_checkable
class Task(Protocol):
    """Data, loss and score of a model.

    Three methods suffice: without a name it has that of its class, and `batches(split)` without a seed is taken, too;
    then the data is in the same order in every epoch. A task may also have `example() -> (args, kwargs)`: real inputs
    to capture a model with; and `count(batch) -> float`, if its loss is a mean over something else than
    examples, such as the tokens that are no padding: with --parallel the shares of a batch count by that.
    """

    @property
    def name(self) -> str:
        """What reports call the task; may be left out."""

    def batches(self, split: Split, *, seed: int = 0) -> Iterable[Batch]:
        """Go once through a split in batches, which are whatever `loss` understands.

        `train` is shuffled and augmented by `seed`: the same seed gives the same batches. The training loop asks with
        a new seed for every epoch; calibration takes the first batches of one. `validation` does not depend on `seed`.
        The result should have `len()`, else an epoch is counted by going through it.
        """

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss over a batch, a scalar. The batch's tensors are on the model's device."""

    def score(self, model: nn.Module) -> Score:
        """Measure a model, given in evaluation mode, on the validation split."""


def accuracy(correct: int, n: int) -> Score:
    """Return the accuracy of `correct` right answers among `n`, with its 95% Wilson interval.

    Raises:
        ValueError: there are no answers, or more right ones than answers.

    Reference: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927.
    """
    if not 0 <= correct <= n or n == 0:
        raise ValueError(f"{correct} right answers among {n}" + ("; is the validation split empty?" if n == 0 else ""))
    p = correct / n
    shrink = 1 + _Z_95**2 / n
    center = (p + _Z_95**2 / (2 * n)) / shrink
    half = _Z_95 / shrink * math.sqrt(p * (1 - p) / n + _Z_95**2 / (4 * n**2))
    return Score(p, "accuracy", n, (max(0.0, center - half), min(1.0, center + half)))


def mean_score(values: Sequence[float], name: str, n: int | None = None) -> Score:
    """Return the mean of one value for each example, with its 95% interval by the normal approximation.

    Args:
        values: of examples that were drawn independently; a single one has no interval.
        name: of the quantity.
        n: what the score counts, if not the examples.

    Raises:
        ValueError: there are no values.
    """
    count = len(values)
    if not count:
        raise ValueError("a mean of no values; is the validation split empty?")
    mean = math.fsum(values) / count
    interval = None
    if count > 1:
        variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
        half = _Z_95 * math.sqrt(variance / count)
        interval = (mean - half, mean + half)
    return Score(mean, name, count if n is None else n, interval)


def example_inputs(task: Task) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return the inputs that the task offers for capture, or None when it offers none."""
    example = getattr(task, "example", None)
    return None if example is None else example()


def resolve(task: Task | str) -> Task:
    """Return the task that is meant.

    Args:
        task: a Task; or a built-in name with options, such as `digits` or `digits:batch_size=32` (a value without a
            name in the first place is that of the first option); or `file.py:factory`, or `package.module:factory`,
            where the factory is a class or a function that needs no arguments, or a Task itself. A file alone means
            its `make`.

    Raises:
        UsageError: nothing is found under the name, it cannot be imported or made, or it is not a Task.
    """
    if not isinstance(task, str):
        return _checked(task, repr(task))
    name, _, options = task.partition(":")
    known = registry.entries(_PACKAGE)
    if name in known:
        if options and "=" not in options.partition(",")[0]:
            options = f"{known[name].options[0].name}={options}"
        return _checked(registry.make(_PACKAGE, f"{name}:{options}")[0], name)
    if task.endswith(".py"):
        task = f"{task}:make"
    if ":" not in task:
        raise UsageError(
            f"There is no built-in task {name!r}{nearest(name, known)}. There are: {', '.join(known)}. "
            "For a task of your own write file.py:factory or package.module:factory."
        )
    found = load_object(task, "task")
    if isinstance(found, type) or (callable(found) and not isinstance(found, Task)):
        found = make(found, task, "task")
    return _checked(found, task)


def _checked(task: object, name: str) -> Task:
    missing = [member for member in ("batches", "loss", "score") if not hasattr(task, member)]
    if missing:
        kind = type(task).__name__
        raise UsageError(f"{name} is not a task: it is a {kind} without {', '.join(missing)}. See sparsify.task.Task.")
    found = cast(Task, task)
    seeded = _takes(found.batches, "train", seed=0)
    if not seeded and not _takes(found.batches, "train"):
        raise UsageError(f"The batches of the task {name} must be called as batches(split), or batches(split, seed=0).")
    if seeded and hasattr(task, "name"):
        return found
    from sparsify.adapted_task import AdaptedTask

    return AdaptedTask(task, seeded=seeded)


def _takes(function: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return False
    return True
