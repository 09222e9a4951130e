"""Random networks for hypothesis: a list of operations, interpreted one after the other on the values made so far.

A network is described by a `Spec`, which is nothing but numbers and names, so that hypothesis shrinks it well. An
operation that does not fit to any value is left out. Every value that no operation reads goes into an output.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from helpers.zoo import randomize
from hypothesis import strategies as st
from torch import Tensor, nn

__all__ = ["OPS", "WIDTHS", "Build", "Choices", "Spec", "Unfit", "op", "specs"]

WIDTHS = (4, 6, 8, 5, 7, 12, 9, 10, 11, 13, 16, 17, 23, 24)
INPUTS = {
    "flat": (7,),
    "image": (3, 6, 5),
    "sequence": (5, 6),
    "signal": (3, 9),
    "volume": (2, 4, 3, 4),
    "tokens": (5,),
}
VOCABULARY = 11
LARGEST, LONGEST = 3000, 80  # numbers of one sample's value, and along one dimension
BATCH = 2
CHOICES = 6  # numbers that an operation may use

OPS: dict[str, Callable[["Build", "Choices"], None]] = {}


def op(function):
    """Register an operation: it chooses values and sizes and adds layers to a network, or raises Unfit."""
    OPS[function.__name__] = function
    return function


class Unfit(Exception):  # noqa: N818 -- nothing is wrong
    """The operation cannot be applied to what there is."""


class Choices:
    """The numbers that an operation chooses by."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = iter(numbers)

    def of(self, options: Iterable[Any]) -> Any:
        """Choose one of several; the first by zero."""
        found = list(options)
        if not found:
            raise Unfit
        return found[next(self._numbers, 0) % len(found)]

    def flag(self) -> bool:
        return self.of((False, True))

    def width(self) -> int:
        return self.of(WIDTHS)

    def divisor(self, number: int) -> int:
        """Choose a proper factor of a number."""
        return self.of([d for d in range(2, number) if number % d == 0])


class Network(nn.Module):
    """Steps, each a function or a layer of values that were made before; returns the values of some steps."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Callable[..., Any], tuple[int, ...]]] = []
        self.returned: tuple[int, ...] = ()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values: list[Tensor] = list(inputs)
        for step, operands in self.steps:
            result = step(*(values[index] for index in operands))
            values.extend(result if isinstance(result, (tuple, list)) else [result])
        return tuple(values[index] for index in self.returned)


class Build:
    """A network that is being built, with the values that its example has so far.

    Attributes:
        net: the network.
        values: what was computed for the example.
        layers: layers that may be used again, each with the shape behind the batch that it was made for.
    """

    def __init__(self, inputs: Sequence[Tensor], seed: int) -> None:
        self.net = Network()
        self.values = list(inputs)
        self.layers: list[tuple[nn.Module, tuple[int, ...]]] = []
        self._used: set[int] = set()
        self._seed = seed

    def pick(self, c: Choices, fits: Callable[[Tensor], bool] = lambda x: True) -> int:
        """Choose a value: the newest that fits by zero, more often than others."""
        fitting = [i for i, v in enumerate(self.values) if v.is_floating_point() and v.ndim > 1 and fits(v)][::-1]
        return c.of([*fitting[:1] * len(fitting), *fitting])

    def add(self, step: Callable[..., Any], *operands: int, final: bool = False) -> int:
        """Apply a function or a layer to values; return the number of its (first) result.

        Raises:
            Unfit: it does not run, or what it makes is too large, not finite, or nearly zero.
        """
        if isinstance(step, nn.Module) and all(step is not layer for layer, _ in self.layers):
            randomize(step.double(), self._seed + len(self.net.steps)).eval()
        try:
            with torch.no_grad():
                result = step(*(self.values[index] for index in operands))
        except (RuntimeError, ValueError, IndexError) as error:
            raise Unfit from error
        results = list(result) if isinstance(result, (tuple, list)) else [result]
        if not final and not all(map(_is_sane, results)):
            raise Unfit
        if isinstance(step, nn.Module) and len(operands) == 1:
            self.layers.append((step, tuple(self.values[operands[0]].shape[1:])))
        self.net.steps.append((step, operands))
        self._used.update(operands)
        self.values.extend(results)
        return len(self.values) - len(results)

    def attempt(self, name: str, numbers: Iterable[int]) -> bool:
        """Apply an operation, as a whole or not at all; return whether it was."""
        before = list(self.net.steps), list(self.values), list(self.layers), set(self._used)
        try:
            OPS[name](self, Choices(numbers))
        except Unfit:
            self.net.steps, self.values, self.layers, self._used = before
            return False
        return True

    def finish(self, count: int) -> nn.Module:
        """Return the network with all values that nothing has read yet in `count` outputs."""
        loose = [i for i, value in enumerate(self.values) if i not in self._used and value.is_floating_point()]
        add = functools.partial(self.add, final=True)
        heads = []
        for number, index in enumerate(loose):
            value = self.values[index]
            pooled = value.ndim == 4 and number % 2
            width = value.shape[1] if pooled else math.prod(value.shape[1:])
            flat = add(functools.partial(torch.mean, dim=(2, 3)) if pooled else torch.nn.Flatten(), index)
            heads.append(add(nn.Linear(width, 3), flat))
        parts = [heads[start::count] for start in range(count)]
        self.net.returned = tuple(functools.reduce(lambda a, b: add(torch.add, a, b), part) for part in parts if part)
        for index, (step, _) in enumerate(self.net.steps):
            if isinstance(step, nn.Module):
                self.net.add_module(f"m{index}", step)
        return self.net


class Free(nn.Module):
    """A function of a value and a free parameter `p`."""

    def __init__(self, shape: tuple[int, ...], how: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.randn(shape) + 0.1)
        self.how = how or torch.mul

    def forward(self, x: Tensor) -> Tensor:
        return self.how(x, self.p)


def _is_sane(value: Any) -> bool:
    if not isinstance(value, Tensor) or value.ndim < 2 or value.shape[0] != BATCH:
        return False
    if value.numel() > BATCH * LARGEST or max(value.shape) > LONGEST or not value.is_floating_point():
        return False
    return bool(value.isfinite().all()) and float(value.abs().mean()) > 1e-3 and float(value.abs().max()) < 100


@dataclass(frozen=True)
class Spec:
    """A network.

    Attributes:
        inputs: kinds of inputs.
        ops: names of operations with the numbers that they choose by.
        outputs: how many there are.
        double: in float64, or in float32.
        seed: of weights, of the input, and of everything that is chosen about the network later.
    """

    inputs: tuple[str, ...]
    ops: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: int = 1
    double: bool = True
    seed: int = 0

    def build(self) -> tuple[nn.Module, tuple[Tensor, ...], list[str]]:
        """Return the network in evaluation mode, its inputs for a batch of two, and the operations that it has."""
        with torch.random.fork_rng([]):
            torch.manual_seed(self.seed)
            inputs = [_example(kind) for kind in self.inputs]
            build = Build(inputs, self.seed)
            for number, kind in enumerate(self.inputs):
                _stem(build, number, kind)
            applied = [name for name, numbers in self.ops if build.attempt(name, numbers)]
            net = build.finish(self.outputs).eval()
        if not self.double:
            net, inputs = net.float(), [x.float() if x.is_floating_point() else x for x in inputs]
        return net, tuple(inputs), applied


def _example(kind: str) -> Tensor:
    if kind == "tokens":
        return torch.randint(0, VOCABULARY, (BATCH, *INPUTS[kind]))
    return torch.randn(BATCH, *INPUTS[kind], dtype=torch.float64)


def _stem(build: Build, number: int, kind: str) -> None:
    if kind == "tokens":
        build.add(nn.Embedding(VOCABULARY, 12), number)
    elif kind in ("flat", "sequence"):
        build.add(nn.Linear(INPUTS[kind][-1], 8), number)
    else:
        build.add({2: nn.Conv1d, 3: nn.Conv2d, 4: nn.Conv3d}[len(INPUTS[kind])](INPUTS[kind][0], 8, 1), number)


def specs(most: int = 8) -> st.SearchStrategy[Spec]:
    """Draw networks of up to `most` operations."""
    numbers = st.tuples(*[st.integers(0, 23)] * CHOICES)
    steps = st.tuples(st.sampled_from(sorted(OPS)), numbers)
    return st.builds(
        Spec,
        inputs=st.lists(st.sampled_from(list(INPUTS)), min_size=1, max_size=2).map(tuple),
        ops=st.lists(steps, min_size=1, max_size=most).map(tuple),
        outputs=st.integers(1, 2),
        double=st.booleans(),
        seed=st.integers(0, 9999),
    )
