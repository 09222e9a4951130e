"""Stability: ends a training when the mask that would be drawn from it no longer changes much."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sparsify.coding.bits import packed, unpacked

if TYPE_CHECKING:
    from sparsify.training.watch import StepEvent

__all__ = ["Stability", "hamming"]


def hamming(one: Tensor, other: Tensor) -> float:
    """Return which share of two masks' entries differs, in [0, 1]."""
    return int((one != other).sum()) / max(1, one.numel())


class Stability:
    """A watch that draws a mask every so many steps, and ends the training when the last few of them agree.

    They agree when every two of them differ in less than a share `distance` of their entries.

    Args:
        draw: makes of the live module a mask: flat booleans, always as many.
        every: steps between two masks.
        window: how many masks must agree.
        distance: in less than which share of their entries.
        told: called with what is known of each mask.

    Attributes:
        ended: whether they agree.
        masks: `step` of each mask, `distances` to those before it in the window, the oldest first, and the `largest`
            of all distances in the window, None before it is full.

    Reference: You et al., "Drawing Early-Bird Tickets: Towards More Efficient Training of Deep Networks", 2020.
    """

    def __init__(
        self,
        draw: Callable[[nn.Module], Tensor],
        *,
        every: int,
        window: int,
        distance: float,
        told: Callable[[Mapping[str, Any]], None] = lambda entry: None,
    ) -> None:
        self._draw, self._every, self._window, self._distance, self._told = draw, every, window, distance, told
        self._last: list[Tensor] = []
        self.masks: list[dict[str, Any]] = []
        self.ended = False

    def look(self, event: StepEvent) -> None:
        """Draw a mask, if it is time."""
        if event.step % self._every:
            return
        new = self._draw(event.module).flatten().cpu()
        before = self._last[-(self._window - 1) :]
        distances = [hamming(new, old) for old in before]
        self._last = [*before, new]
        largest = None
        if len(self._last) == self._window:
            largest = max(hamming(one, other) for one, other in itertools.combinations(self._last, 2))
            self.ended = largest < self._distance
        self.masks.append({"step": event.step, "distances": distances, "largest": largest})
        self._told(self.masks[-1])

    def state(self) -> dict[str, Any]:
        """Return the masks in the window and what is known of all."""
        last = [{"bits": packed(mask), "size": mask.numel()} for mask in self._last]
        return {"last": last, "masks": [dict(entry) for entry in self.masks], "ended": self.ended}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._last = [unpacked(item["bits"], torch.Size([item["size"]])) for item in state["last"]]
        self.masks, self.ended = list(state["masks"]), bool(state["ended"])
