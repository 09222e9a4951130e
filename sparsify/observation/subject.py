"""The subject of statistics: a program, the data, and of what of it they are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from sparsify.blocks import Block
from sparsify.layers import Layer, layers
from sparsify.observation.calibration import Calibration
from sparsify.observation.signals import Signal
from sparsify.program import Program

__all__ = ["Subject"]


@dataclass(frozen=True)
class Subject:
    """What statistics are taken of.

    Attributes:
        program: is run, never changed.
        calibration: the data.
        parameters: names of the parameters whose statistics are wanted.
        signals: groups and blocks whose channels are wanted.
        blocks: blocks that are wanted as a whole.
    """

    program: Program
    calibration: Calibration
    parameters: Sequence[str] = ()
    signals: Sequence[Signal] = ()
    blocks: Sequence[Block] = ()

    @cached_property
    def layers(self) -> list[Layer]:
        """The layers that read one of the parameters; of those that read it in two directions, the first one's."""
        wanted, found = set(self.parameters), dict[str, Layer]()
        read = [layer for layer in layers(self.program) if layer.parameter in wanted]
        return [layer for layer in read if found.setdefault(layer.parameter, layer).layout == layer.layout]

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The names of the parameters, signals and blocks."""
        keys = tuple(signal.key for signal in self.signals)
        return tuple(self.parameters), keys, tuple(block.name for block in self.blocks)

    @property
    def trainable(self) -> dict[str, Tensor]:
        """Those of the parameters that have a gradient."""
        found = self.program.parameters
        return {name: found[name] for name in self.parameters if found[name].requires_grad}

    def matrices(self, parameter: str) -> tuple[int, int, int]:
        """Return groups, outputs and inputs of the matrices of a weight whose layer's input can be seen, else zeros."""
        for layer in self.layers:
            if layer.parameter == parameter and layer.rows is not None:
                return layer.layout.sizes(self.program.parameters[parameter].shape)
        return 0, 0, 0

    def only(self, parameters: Sequence[str]) -> Subject:
        """Return the same with fewer parameters."""
        return replace(self, parameters=parameters)
