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

    def centred(self) -> Moments:
        """Return the moments around the means: what is left to fit where a bias takes care of the means."""
        mean, before = self.mean[:, None], self.before[..., None]
        return Moments(self.gram - mean.mT @ mean, self.cross - before @ mean, mean[:, 0], before[..., 0])


def moments(
    pruned: Program, whole: Program | None, names: Collection[str], calibration: Calibration
) -> dict[str, Moments]:
    """Run both programs on the calibration data and gather the moments of the layers that read some weights.

    A weight that several layers read gets the moments of all. Memory does not grow with the number of batches: a layer
    takes 8 K² bytes for each group, and one batch of inputs.

    Args:
        pruned: gives the inputs x.
        whole: gives the inputs z; without it they are x.
        names: of the weights.
        calibration: the data.

    Raises:
        PassError: the inputs of a layer are not finite.
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
    return gatherer.means()


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
        self._sums: dict[str, Moments] = {}
        self._counts: dict[str, Tensor] = {}

    def before(self, layer: Layer, rows: Rows) -> None:
        self.stored[layer.node.name] = rows

    def after(self, layer: Layer, found: Rows) -> None:
        old = self.stored.pop(layer.node.name, found)
        if isinstance(found, list) or isinstance(old, list):
            parts = [_moments(part[None], part[None]) for part in found]
            sums = Moments(*(torch.cat([getattr(m, name) for m, _ in parts]) for name in vars(parts[0][0])))
            count = torch.cat([count for _, count in parts])
        else:
            sums, count = _moments(found, old)
        self._add(layer.parameter, sums, count)

    def _add(self, name: str, sums: Moments, count: Tensor) -> None:
        if name not in self._sums:
            self._sums[name], self._counts[name] = sums, count
            return
        for part, value in vars(sums).items():
            getattr(self._sums[name], part).add_(value)
        self._counts[name] += count

    def means(self) -> dict[str, Moments]:
        for name, sums in self._sums.items():
            count = self._counts[name].clamp_min(1)
            for part in vars(sums).values():
                part.div_(count.view(-1, *[1] * (part.ndim - 1)))
            if not bool(torch.isfinite(sums.gram).all()):
                raise PassError(f"The inputs of {name} are not finite. Check the data and the model.")
        return self._sums


def _moments(after: Tensor, before: Tensor) -> tuple[Moments, Tensor]:
    """Return sums over rows `[G, N, K]`, and how many rows each group has."""
    x, z = after.float(), before.float()
    count = torch.full((len(x),), x.shape[1], dtype=torch.float32, device=x.device)
    gram = x.transpose(1, 2) @ x
    cross = gram.clone() if before is after else z.transpose(1, 2) @ x
    return Moments(gram, cross, x.sum(1), z.sum(1)), count
