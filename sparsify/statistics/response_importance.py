"""How much of a channel reaches the outputs through absolute weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsify.observation.absolute import absolute_gradients
from sparsify.observation.calibration import Data
from sparsify.observation.signals import GroupSignal
from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched
from sparsify.statistics import Statistic

__all__ = ["ResponseImportance"]


class ResponseImportance(Statistic):
    """∂R/∂a of a channel a, where R is the sum of the outputs when all weights are absolute; `[size]` for each group.

    That is the importance of the final responses, equal for all, carried back through |W| of every layer that reads the
    channel, and added up over positions. A gate that multiplies would give a ∂R/∂a, which counts what comes before the
    channel, too; so something is added to the channel instead.

    Reference: Yu et al., "NISP: Pruning Networks using Neuron Importance Score Propagation", 2018.
    """

    data: ClassVar[Data] = "nothing"

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Run the absolute program once, forward and back."""
        added = [_Added(signal) for signal in subject.signals if isinstance(signal, GroupSignal)]
        return absolute_gradients(subject.program, [], added)


@dataclass(frozen=True, eq=False)
class _Added:
    """A signal to whose channels something is added where others multiply."""

    signal: GroupSignal

    @property
    def key(self) -> str:
        return self.signal.key

    @property
    def size(self) -> int:
        return self.signal.size

    def look(self, watched: Watched, look: Callable[[Tensor], None]) -> None:
        self.signal.look(watched, look)

    def scale(self, watched: Watched, gate: Tensor) -> None:
        for place in self.signal.places:

            def shifted(value: Tensor, dim: int = place.dim, index: Tensor = place.index) -> Tensor:
                at = index.to(value.device)
                shift = torch.where(at < 0, 0.0, gate[at.clamp_min(0)] - 1)
                shape = [1] * value.ndim
                shape[dim] = -1
                return value + shift.to(value.dtype).view(shape)

            if place.reader is None:
                watched.result(place.value, shifted)
            else:
                watched.change(place.reader, place.value, shifted)
