"""Where a channel ends up when random halves of its layer are closed again and again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from sparsify.observation.bandits import source
from sparsify.observation.signals import GroupSignal
from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched
from sparsify.statistics import Statistic

__all__ = ["FilterSearch"]

HALVES = 16  # tried on each batch, or half as many as there are candidates if that is more


class FilterSearch(Statistic):
    """Binary filter search: the round in which a channel was set aside, from the end, plus its damage; `[size]`.

    A round closes random halves of the channels that are still candidates, on each batch 16 or half as many as there
    are candidates, and sets those aside whose halves did the most damage on average; the search goes on among the
    others until one is left. The damage is ‖y - y'‖² / ‖y‖² of the outputs y of the operators that read the channels,
    which are run once more with a half closed. Its mean d counts as d / (1 + d), less than a round. The last candidate
    was set aside in round zero.

    All groups are searched at once; the data is gone through once for each round.
    """

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Search."""
        signals = [s for s in subject.signals if isinstance(s, GroupSignal) and s.places]
        searches = {signal.key: _Search(signal, subject.calibration.seed) for signal in signals}
        while open_ := [search for search in searches.values() if search.open]:
            watched = Watched(subject.program)
            for search in open_:
                search.attach(watched)
            with torch.no_grad():
                for _ in subject.calibration.run(watched.ready(), subject.program):
                    for search in open_:
                        search.batch()
            for search in open_:
                search.narrow()
        return {key: search.result() for key, search in searches.items()}


class _Search:
    def __init__(self, signal: GroupSignal, seed: int) -> None:
        self._signal, self._generator = signal, source(seed, signal.key)
        self._candidates = torch.arange(signal.size)
        self._round = torch.zeros(signal.size, dtype=torch.float64)
        self._damage = torch.zeros(signal.size, dtype=torch.float64)
        self._begin()

    @property
    def open(self) -> bool:
        return len(self._candidates) > 1

    def attach(self, watched: Watched) -> None:
        """Look at everything that reads the channels; where nobody sums over them, at the channels."""
        for place in self._signal.places:
            at = _operands(place.reader, place.value)
            if place.reader is not None and at:
                watched.look(place.reader, partial(self._read, place.reader, place.dim, place.index, at))
            else:
                watched.look_at([place.value], partial(self._read, None, place.dim, place.index, [0]))

    def _read(self, reader: fx.Node | None, dim: int, index: Tensor, at: list[int], *args: Any) -> None:
        def output(gate: Tensor | None) -> Tensor:
            values = list(args)
            for place in at if gate is not None else ():
                values[place] = _gated(args[place], gate, dim, index)  # type: ignore[arg-type]
            result = values[0] if reader is None else reader.target(*values, **reader.kwargs)  # type: ignore[operator]
            return next(v for v in pytree.tree_leaves(result) if isinstance(v, Tensor)).double()

        whole = output(None)
        self._norm += float(whole.square().sum())
        for number, half in enumerate(self._halves):
            self._change[number] += float((whole - output(~half)).square().sum())

    def batch(self) -> None:
        """Give every member of a half its damage, and draw new halves."""
        damage = self._change / max(self._norm, 1e-300)
        self._total += self._halves.double().T @ damage
        self._count += self._halves.sum(0)
        self._draw()

    def narrow(self) -> None:
        """Set the worse half aside."""
        mean = (self._total / self._count.clamp_min(1))[self._candidates]
        self._damage[self._candidates] = mean
        order = self._candidates[mean.argsort(stable=True)]
        self._candidates = order[: len(order) // 2]
        self._round[self._candidates] += 1
        self._begin()

    def result(self) -> Tensor:
        """Return the scores; `_round` counts the rounds that a channel stayed a candidate."""
        return self._round.max() - self._round + self._damage / (1 + self._damage)

    def _begin(self) -> None:
        self._total, self._count = torch.zeros(2, self._signal.size, dtype=torch.float64)
        self._draw()

    def _draw(self) -> None:
        self._halves = torch.stack(list(self._drawn()))
        self._change, self._norm = torch.zeros(len(self._halves), dtype=torch.float64), 0.0

    def _drawn(self) -> Iterator[Tensor]:
        """Yield halves, each followed by its rest, so that every candidate is closed equally often."""
        for _ in range(max(HALVES, len(self._candidates) // 2) // 2):
            order = self._candidates[torch.randperm(len(self._candidates), generator=self._generator)]
            for half in (order[: len(order) // 2], order[len(order) // 2 :]):
                yield torch.zeros(self._signal.size, dtype=torch.bool).index_fill_(0, half, True)


def _operands(reader: fx.Node | None, value: fx.Node) -> list[int]:
    """Return which arguments of an operator a value is; none if the operator cannot be run once more on its own."""
    if reader is None or any(isinstance(other, fx.Node) for other in reader.kwargs.values()):
        return []
    return [index for index, argument in enumerate(reader.args) if argument is value]


def _gated(value: Tensor, open_: Tensor, dim: int, index: Tensor) -> Tensor:
    factors = ((index < 0) | open_[index.clamp_min(0)]).to(value.device, value.dtype)
    return value * factors.view([-1 if place == dim else 1 for place in range(value.ndim)])
