"""Windows of convolutions and pools: kernel, strides, dilations, and padding that may differ at both ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from sparsify.onnx_in.op import Op

__all__ = ["Windows", "split_padding"]


def split_padding(totals: Sequence[int], mode: str) -> list[int]:
    """Split padding between begin and end; the odd one goes to the end, or with SAME_LOWER to the begin."""
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return [*large, *small] if mode == "SAME_LOWER" else [*small, *large]


@dataclass(frozen=True)
class Windows:
    """Where the windows of an operator lie; all lists have an entry for each spatial dimension."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    begin: list[int]
    end: list[int]

    @classmethod
    def of(cls, op: Op, x: Tensor, kernel: list[int]) -> Windows:
        """Read the windows of an operator on an input of [batch, channels, space...].

        Raises:
            InputError: an attribute does not fit.
        """
        count = len(kernel)
        strides = list(op.attribute("strides", [1] * count))
        dilations = list(op.attribute("dilations", [1] * count))
        pads, mode = list(op.attribute("pads", [0] * 2 * count)), op.attribute("auto_pad", "NOTSET")
        lengths = (len(strides), len(dilations), len(pads), x.ndim - 2)
        if lengths != (count, count, 2 * count, count) or min([*strides, *dilations, *kernel, 1]) < 1:
            raise op.refused("kernel, strides, dilations, pads and input do not fit together")
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            totals = []
            for size, k, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
                covered = (-(-int(size) // stride) - 1) * stride + (k - 1) * dilation + 1
                totals.append(max(covered - int(size), 0))
            pads = split_padding(totals, mode)
        elif mode == "VALID":
            pads = [0] * 2 * count
        return cls(kernel, strides, dilations, pads[:count], pads[count:])

    def padded(self, x: Tensor, value: float) -> tuple[Tensor, list[int]]:
        """Return the input, padded where padding is uneven, and the even padding that is left to the operator."""
        if self.begin == self.end and min(self.begin, default=0) >= 0:
            return x, self.begin
        return self.widened(x, value), [0] * len(self.begin)

    def widened(self, x: Tensor, value: float) -> Tensor:
        """Return the input with all padding around it."""
        sides = [side for pair in zip(reversed(self.begin), reversed(self.end), strict=True) for side in pair]
        return F.pad(x, sides, value=value)
