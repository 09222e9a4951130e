"""Sparse layers measured beside dense ones, on random weights; on a GPU its table of kernels is filled on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import mkldnn

from sparsify.formats import Format
from sparsify.formats.bitmask import Bitmask
from sparsify.formats.block import BlockRows
from sparsify.formats.index import Index
from sparsify.formats.nm import Nm
from sparsify.kernels._on_gpu import tuning
from sparsify.kernels._timing import least
from sparsify.lowering.sites import product_with

__all__ = ["KINDS", "Row", "encoded", "measure_kernels"]

KINDS = ("2:4", "block64 90%", "block128 80%", "bitmask 70%", "index 90%", "index 95%")
"""Formats with the share of the weights that is zero."""


@dataclass(frozen=True)
class Row:
    """One layer.

    Attributes:
        kind: the format, one of `KINDS`.
        outputs: N.
        inputs: K.
        batch: M.
        dense: milliseconds of the best dense layer.
        sparse: of the sparse one.
        way: the kernel that a GPU took; empty elsewhere.
    """

    kind: str
    outputs: int
    inputs: int
    batch: int
    dense: float
    sparse: float
    way: str

    @property
    def speed(self) -> float:
        """How many times as fast as dense the sparse layer is."""
        return self.dense / self.sparse

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and the speed by name."""
        return {**asdict(self), "speed": self.speed}


def measure_kernels(
    device: torch.device, dtype: torch.dtype, shapes: Sequence[tuple[int, int]], batches: Sequence[int],
    stage: Callable[[str], None] = lambda text: None,
) -> Iterator[Row]:  # fmt: skip
    """Measure every kind of format for weights of some shapes and some batches.

    Args:
        device: where.
        dtype: of all numbers.
        shapes: N and K.
        batches: M.
        stage: told what is measured.
    """
    for outputs, inputs in shapes:
        generator = torch.Generator(device).manual_seed(0)
        weight = torch.randn(outputs, inputs, generator=generator, device=device).to(dtype)
        for kind in KINDS:
            found = encoded(kind, weight, generator)
            dense = found.decode()
            for batch in batches:
                stage(f"{kind}, {outputs}x{inputs}, batch {batch}")
                x = torch.randn(batch, inputs, generator=generator, device=device).to(dtype)
                yield _row(kind, found, dense, x)


def _row(kind: str, found: Format, dense: Tensor, x: Tensor) -> Row:
    sparse = partial(product_with(found), x)
    with torch.no_grad():
        with tuning() as taken:
            sparse()
        times = least({**_dense(dense, x), "sparse": sparse}, x.device)
    best = min(time for name, time in times.items() if name != "sparse")
    return Row(kind, *found.shape, len(x), best, times["sparse"], taken[-1] if taken else "")


def _dense(weight: Tensor, x: Tensor) -> dict[str, Callable[[], object]]:
    """Return the dense layers: torch's, and on a CPU that of oneDNN with a weight in its own order, often faster."""
    calls: dict[str, Callable[[], object]] = {"plain": lambda: F.linear(x, weight)}
    if x.device.type == "cpu" and x.dtype == torch.float32:
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False).eval()
        layer.weight.data.copy_(weight)
        packed, given = mkldnn.to_mkldnn(layer), x.to_mkldnn()  # type: ignore[no-untyped-call]
        calls["packed"] = lambda: packed(given)
    return calls


def encoded(kind: str, weight: Tensor, generator: torch.Generator) -> Format:
    """Return a weight in a format, pruned at random; the kind is one of `KINDS`, or written like them."""
    name, _, share = kind.partition(" ")
    kept = 1 - float(share.rstrip("%") or 50) / 100
    outputs, inputs = weight.shape
    if name == "2:4":
        scores = torch.rand(outputs, -(-inputs // 4), 4, generator=generator, device=weight.device)
        mask = (scores.argsort(2).argsort(2) < 2).view(outputs, -1)[:, :inputs]
        return Nm.encode(weight, mask.contiguous(), 2, 4)
    if name.startswith("block"):
        side = int(name.removeprefix("block"))
        tiles = torch.rand(-(-outputs // side), -(-inputs // side), generator=generator, device=weight.device) < kept
        mask = tiles.repeat_interleave(side, 0).repeat_interleave(side, 1)[:outputs, :inputs].contiguous()
        return BlockRows.encode(weight, mask, side, side)
    mask = torch.rand(outputs, inputs, generator=generator, device=weight.device) < kept
    return Bitmask.encode(weight, mask) if name == "bitmask" else Index.encode(weight, mask)
