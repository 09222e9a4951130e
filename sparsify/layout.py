"""Layouts: how a layer reads its weight as matrices, whatever the order of the tensor's dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """Which dimensions of a weight are outputs and which are inputs of the layer that reads it.

    As matrices a weight is `matrices_GOK`: G groups or experts, O outputs of each, and K inputs of each output; for a
    convolution K runs over the channels of one group and the positions of its kernel.

    Attributes:
        outputs: dimensions that the layer's output has.
        inputs: dimensions that are summed over: features or channels.
        kernel: dimensions that are positions of a kernel and are summed over, too.
        batch: dimensions with a matrix of its own for every index, such as experts.
        groups: into how many groups the outputs of a convolution are divided.
        grouped_inputs: the groups divide the first input dimension instead, as in a transposed convolution.
    """

    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    batch: tuple[int, ...] = ()
    groups: int = 1
    grouped_inputs: bool = False

    @property
    def order(self) -> tuple[int, ...]:
        """All dimensions in the order of the matrices."""
        return (*self.batch, *self.outputs, *self.inputs, *self.kernel)

    def matrices(self, value: Tensor) -> Tensor:
        """Return a tensor of the weight's shape as `[G, O, K]`."""
        batch, outputs, inputs = self._sizes(value.shape)
        matrix = value.permute(self.order).reshape(batch, outputs, inputs)
        if self.grouped_inputs:
            return matrix.view(outputs, self.groups, -1).transpose(0, 1)
        return matrix.reshape(batch * self.groups, outputs // self.groups, inputs)

    def restore(self, matrices: Tensor, shape: Sequence[int]) -> Tensor:
        """Return matrices `[G, O, K]` as a tensor of the weight's shape."""
        if self.grouped_inputs:
            matrices = matrices.transpose(0, 1)
        ordered = matrices.reshape([shape[dim] for dim in self.order])
        return ordered.permute([self.order.index(dim) for dim in range(len(shape))])

    def spread(self, values: Tensor, shape: Sequence[int]) -> Tensor:
        """Return values of the inputs, `[G, K]`, in a shape that broadcasts to the weight's."""
        if self.groups > 1:
            _, outputs, _ = self._sizes(shape)
            copies = outputs if self.grouped_inputs else outputs // self.groups
            return self.restore(values[:, None].expand(-1, copies, -1), shape)
        return self.restore(values[:, None], [1 if dim in self.outputs else size for dim, size in enumerate(shape)])

    def along_inputs(self, value: Tensor) -> Tensor:
        """Return a tensor of the weight's shape with its input features or channels last, `[..., I]`."""
        rest = [dim for dim in range(value.ndim) if dim not in self.inputs]
        return value.permute(*rest, *self.inputs).flatten(len(rest))

    def from_inputs(self, value: Tensor, shape: Sequence[int]) -> Tensor:
        """Undo `along_inputs` for a weight of a shape."""
        rest = [dim for dim in range(len(shape)) if dim not in self.inputs]
        order = [*rest, *self.inputs]
        return value.reshape([shape[dim] for dim in order]).permute([order.index(dim) for dim in range(len(shape))])

    def sizes(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Return G, O and K of the matrices of a weight of a shape."""
        batch, outputs, inputs = self._sizes(shape)
        if self.grouped_inputs:
            return self.groups, outputs, inputs // self.groups
        return batch * self.groups, outputs // self.groups, inputs

    def input_size(self, shape: Sequence[int]) -> int:
        """Return how many features or channels one output reads."""
        size = math.prod(shape[dim] for dim in self.inputs)
        return size // self.groups if self.grouped_inputs else size

    def _sizes(self, shape: Sequence[int]) -> tuple[int, int, int]:
        groups = (self.batch, self.outputs, (*self.inputs, *self.kernel))
        batch, outputs, inputs = (math.prod(shape[dim] for dim in dims) for dims in groups)
        return batch, outputs, inputs
