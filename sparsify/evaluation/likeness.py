"""Likeness: linear CKA between what two models compute for the same examples, at their outputs and inside.

An example is one of the task's; its features are all numbers behind the first dimension. Compared are the outputs of
linear layers and convolutions (before norm and activation) that both models have under the same name, of whatever
widths. Where there are at most 1024 features in both, CKA is that of all examples at once, exactly, gathered over the
batches. Where there are more, it is that of means over the task's batches, which the debiased estimator allows
(`sparsify.evaluation.cka`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from sparsify.batches import given_batches, of_task, on_device
from sparsify.data.labelled import device_of
from sparsify.errors import UsageError
from sparsify.evaluation.cka import GramMeans, Moments, gram
from sparsify.layers import layers
from sparsify.observation.watching import Watched
from sparsify.program import Program
from sparsify.task import Task

__all__ = ["OUTPUT", "Likeness", "likenesses"]

OUTPUT = "output"
_WIDEST = 1024


@dataclass(frozen=True)
class Likeness:
    """How alike two models are at one place.

    Attributes:
        place: `output`, or the module.
        cka: linear CKA over all examples; None where there are too many features, or one side does not vary.
        debiased: the same with the debiased estimator; None where one side does not vary.
        examples: how many it was measured on.
        features: how many an example has, in both models.
        exact: it is that of all examples at once, not of means over batches.
    """

    place: str
    cka: float | None
    debiased: float | None
    examples: int
    features: tuple[int, int]
    exact: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {**asdict(self), "features": list(self.features)}


def likenesses(first: Program, others: Sequence[Program], task: Task, *, inside: bool = True) -> list[list[Likeness]]:
    """Compare models with a first one, on the validation data of a task.

    Args:
        first: what the others are compared with.
        others: the models.
        task: calls the models; its loss is not looked at.
        inside: at layers, too, and not at the output alone.

    Returns:
        For each of the others the places in the order of the first one's graph, the output last.

    Raises:
        UsageError: the task's own code failed, or the models give different numbers of outputs for an example.
    """
    programs = [first, *others]
    places = [_places(program) if inside else {} for program in programs]
    wanted = [[name for name in places[0] if name in own] for own in places[1:]]
    needed = set().union(*wanted)
    eyes = [_Eyes(program, {name: own[name] for name in own if name in needed})
            for program, own in zip(programs, places, strict=True)]  # fmt: skip
    pairs = [{name: _Pair(name) for name in (*names, OUTPUT)} for names in wanted]
    device = device_of(eyes[0].module)
    with torch.no_grad():
        for given in given_batches(task, "validation"):
            batch = on_device(given, device)
            seen = [eye.see(task, batch) for eye in eyes]
            for own, found in zip(pairs, seen[1:], strict=True):
                for name, pair in own.items():
                    pair.add(seen[0].get(name), found.get(name))
    return [[pair.likeness() for pair in own.values() if pair.used] for own in pairs]


def _places(program: Program) -> dict[str, tuple[fx.Node, int]]:
    """Return by module the first operator that reads its weight, and which dimension of its value is the batch."""
    found: dict[str, tuple[fx.Node, int]] = {}
    for layer in layers(program):
        value = layer.node.meta.get("val")
        if layer.module not in found and isinstance(value, Tensor) and value.ndim and value.is_floating_point():
            dim = _batch_dim(program, value)
            if dim is not None:
                found[layer.module] = layer.node, dim
    return found


def _batch_dim(program: Program, value: Tensor) -> int | None:
    if (symbol := program.batch_symbol) is None:
        return 0
    sizes: list[Any] = list(value.shape)
    within = [isinstance(size, torch.SymInt) and symbol in size.node.expr.free_symbols for size in sizes]
    return within.index(True) if True in within else None


class _Eyes:
    """A program that tells what it computes at some places."""

    def __init__(self, program: Program, places: Mapping[str, tuple[fx.Node, int]]) -> None:
        watched = Watched(program)
        self._seen: dict[str, list[Tensor]] = {}
        for name, (node, dim) in places.items():
            watched.look_at([node], self._look(name, dim))
        self.module: nn.Module = watched.ready()
        self.module.register_forward_hook(self._output)

    def see(self, task: Task, batch: Any) -> dict[str, _Seen]:
        """Return what one batch of a task gives at each place."""
        self._seen = {}
        with of_task(task, "compute the loss"):
            task.loss(self.module, batch)
        return {name: _Seen.of(torch.cat(parts)) for name, parts in self._seen.items()}

    def _look(self, name: str, dim: int) -> Any:
        def look(value: Tensor) -> None:
            rows = value.detach().movedim(dim, 0).flatten(1) if value.ndim > 1 else value.detach()[:, None]
            self._seen.setdefault(name, []).append(rows.cpu())

        return look

    def _output(self, module: nn.Module, args: Any, output: Any) -> None:
        del module, args
        found = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
        if found and found[0].ndim:
            self._look(OUTPUT, 0)(found[0])


@dataclass(frozen=True)
class _Seen:
    """Features of a batch, or their Gram matrix where they are many."""

    width: int
    rows: Tensor | None
    gram: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> _Seen:
        wide = rows.shape[1] > _WIDEST
        return cls(rows.shape[1], None if wide else rows, gram(rows))


class _Pair:
    """The same place in two models."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._moments, self._means = Moments(), GramMeans()
        self._widths = (0, 0)
        self.used = False

    def add(self, one: _Seen | None, other: _Seen | None) -> None:
        if one is None or other is None:
            return
        if len(one.gram) != len(other.gram):
            raise UsageError(
                f"At {self._name} the models give {len(one.gram)} and {len(other.gram)} rows for the same batch, so "
                "they cannot be compared there: say --similarity none."
            )
        self.used, self._widths = True, (one.width, other.width)
        if one.rows is None or other.rows is None:
            self._means.add(one.gram, other.gram)
        else:
            self._moments.add(one.rows, other.rows)

    def likeness(self) -> Likeness:
        exact = self._moments.count > 0
        found = self._moments if exact else self._means
        return Likeness(
            place=self._name,
            cka=_number(self._moments.cka()) if exact else None,
            debiased=_number(found.debiased()),
            examples=found.count,
            features=self._widths,
            exact=exact,
        )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
