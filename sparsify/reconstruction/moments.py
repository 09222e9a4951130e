"""Moments: second moments of the inputs of layers, of a pruned program and of the same program before pruning."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sparsify.errors import PassError
from sparsify.layers import Layer, layers
from sparsify.observation.calibration import Calibration
from sparsify.observation.watching import Rows, Watched
from sparsify.program import Program

__all__ = ["InTurn", "Moments", "moments", "waves"]


@dataclass
class Moments:
    """Means over all rows (tokens, positions) that the matrices of a weight multiply; float32.

    Attributes:
        gram: of the pruned program's inputs x, E[x xᵀ]: `[G, K, K]`.
        cross: between the inputs z before pruning and x, E[z xᵀ]: `[G, K, K]`; the gram itself where rows have no
            partner, as with experts, whose tokens may change.
        mean: E[x], `[G, K]`.
        before: E[z], `[G, K]`.
    """

    gram: Tensor
    cross: Tensor
    mean: Tensor
    before: Tensor


def moments(
    pruned: Program,
    whole: Program | None,
    names: Collection[str],
    calibration: Calibration,
    centred: Collection[str] = (),
) -> dict[str, Moments]:
    """Run both programs on the calibration data and gather the moments of the layers that read some weights.

    A weight that several layers read gets the moments of all. Memory does not grow with the number of batches: a layer
    takes 8 K² bytes for each group, and one batch of inputs. Sums are taken around the mean of the first batch, so
    that nothing is lost where means are far above the spread.

    Args:
        pruned: gives the inputs x.
        whole: gives the inputs z; without it they are x.
        names: of the weights.
        calibration: the data.
        centred: weights whose gram and cross are taken around the means, as covariances: what is left to fit where a
            bias takes care of the means.

    Raises:
        PassError: the inputs of a layer are not finite, or too large to square in float32.
    """
    gatherer = _Gatherer()
    models = []
    for program, see in ((whole, gatherer.before), (pruned, gatherer.after)):
        if program is not None:
            watched = Watched(program)
            for layer in layers(program):
                if layer.parameter in names:
                    watched.rows(layer, partial(see, layer))
            models.append(watched.ready())
    with torch.no_grad():
        for _ in calibration.run(InTurn(*models), pruned):
            gatherer.stored.clear()
    return {name: gatherer.found(name, name in centred) for name in gatherer.sums}


def waves(program: Program, names: Collection[str]) -> Iterator[list[str]]:
    """Divide weights, in the order of the graph, into those whose layers read the same value."""
    wave: list[str] = []
    source: Any = None
    seen: set[str] = set()
    for layer in layers(program):
        if layer.parameter not in names or layer.parameter in seen:
            continue
        if wave and layer.x is not source:
            yield wave
            wave = []
        seen.add(layer.parameter)
        wave.append(layer.parameter)
        source = layer.x
    if wave:
        yield wave


class InTurn(nn.Module):
    """Runs models on the same inputs, and gives what the last one gives."""

    def __init__(self, *models: nn.Module) -> None:
        super().__init__()
        self._models = nn.ModuleList(models)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run all."""
        return [model(*args, **kwargs) for model in self._models][-1]


class _Gatherer:
    def __init__(self) -> None:
        self.stored: dict[str, Rows] = {}
        self.sums: dict[str, _Sums] = {}

    def before(self, layer: Layer, rows: Rows) -> None:
        self.stored[layer.node.name] = rows

    def after(self, layer: Layer, found: Rows) -> None:
        old = self.stored.pop(layer.node.name, found)
        if isinstance(found, list) or isinstance(old, list):  # each matrix has rows of its own, without partners
            old = found
        rows = [part.float() for part in found]
        partners = rows if old is found else [part.float() for part in old]
        pairs = list(zip(rows, partners, strict=True))
        if layer.parameter not in self.sums:
            self.sums[layer.parameter] = _Sums(pairs)
        self.sums[layer.parameter].add(pairs)

    def found(self, name: str, centred: bool) -> Moments:
        moments = self.sums[name].moments(centred)
        if not bool(torch.isfinite(moments.gram).all() & torch.isfinite(moments.cross).all()):
            raise PassError(
                f"The inputs of {name} are not finite, or too large to square in float32. Check the data and the model."
            )
        return moments


class _Sums:
    """Sums over pairs of rows x and z `[N, K]`, one pair for each matrix, of their distances from an origin."""

    def __init__(self, pairs: list[tuple[Tensor, Tensor]]) -> None:
        x, z = (torch.stack([rows.sum(0) / max(1, len(rows)) for rows in side]) for side in zip(*pairs, strict=True))
        self._x, self._z = x, z  # the origins, [G, K]
        square = x.new_zeros(*x.shape, x.shape[1])
        self._sums = Moments(square, square.clone(), torch.zeros_like(x), torch.zeros_like(z))
        self._count = x.new_zeros(len(x))

    def add(self, pairs: list[tuple[Tensor, Tensor]]) -> None:
        sums = self._sums
        for group, (rows, partners) in enumerate(pairs):
            x = rows - self._x[group]
            z = x if partners is rows else partners - self._z[group]
            sums.gram[group].addmm_(x.T, x)
            sums.cross[group].addmm_(z.T, x)
            sums.mean[group] += x.sum(0)
            sums.before[group] += z.sum(0)
            self._count[group] += len(rows)

    def moments(self, centred: bool) -> Moments:
        """Return the moments, in place of the sums."""
        sums = self._sums
        for total in vars(sums).values():
            total.div_(self._count.clamp_min(1).view(-1, *[1] * (total.ndim - 1)))
        x, z = sums.mean[:, None], sums.before[..., None]
        sums.gram.sub_(x.mT @ x)
        sums.cross.sub_(z @ x)
        sums.mean += self._x
        sums.before += self._z
        if not centred:
            x, z = sums.mean[:, None], sums.before[..., None]
            sums.gram.add_(x.mT @ x)
            sums.cross.add_(z @ x)
        return sums
