"""Drawn weights in ONNX: of a frozen weight the trained values are stored, the others computed again from a seed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from sparsify.errors import InputError
from sparsify.freezing import SEED, frozen_draws, stream_of
from sparsify.kernels._hash import DISTRIBUTIONS, words
from sparsify.kernels.seeded import seeded
from sparsify.program import Program

__all__ = ["DRAWN", "SEED_VALUE", "Drawn", "DrawnWeight", "drawn_weights", "noted", "read_drawn"]

DRAWN = "sparsify.drawn"  # the entry of the metadata that says which weights are drawn, and for whom
SEED_VALUE = "sparsify.seed"  # the constant that holds the seed, the bits of 32 unsigned ones

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Drawn:
    """How a constant of a model is made again from a seed, except for what is trained.

    Attributes:
        distribution: as `sparsify.kernels.seeded` has them.
        scale: likewise.
        stream: likewise.
        seed: likewise.
        transposed: what is drawn is the transpose of the constant.
    """

    distribution: str
    scale: float
    stream: int
    seed: int
    transposed: bool = False

    def turned(self, constant: Array) -> Array:
        """Return the constant as it is drawn; the other way round likewise."""
        return np.ascontiguousarray(constant.T) if self.transposed else constant

    def values(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return what is drawn."""
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        seed = torch.tensor(self.seed)
        made: Array = seeded(seed, self.stream, list(shape), self.distribution, self.scale, kind).numpy()
        return made

    def fits(self, count: int, limit: int) -> bool:
        """Whether no value that is computed on the way takes more bytes than the limit."""
        return 4 * words(self.distribution) * (count + 8) <= limit


@dataclass(frozen=True, eq=False)
class DrawnWeight:
    """A frozen weight of a program.

    Attributes:
        how: the values are drawn that are not trained.
        kept: a mask of the weight's shape, True where it is trained.
        trained: its trained values, anything elsewhere.
    """

    how: Drawn
    kept: Array
    trained: Array

    def whole(self) -> Array:
        """Return the weight."""
        made: Array = np.where(self.kept, self.trained, self.how.values(self.kept.shape, self.trained.dtype))
        return made

    def turned_like(self, constant: Array) -> tuple[DrawnWeight, Array] | None:
        """Return this weight, turned round if the exporter did that, and by what it is multiplied to be a constant."""
        for how in (self.how, replace(self.how, transposed=True)):
            factors = self.factors(how.turned(constant))
            if factors is not None:
                return replace(self, how=how), factors
        return None

    def factors(self, constant: Array) -> Array | None:
        """Return by what the weight is multiplied to be a constant of a model, bit for bit; None if by nothing.

        torch's exporter fuses batch norms into convolutions: then it is one float32 for each output, of a shape that
        broadcasts; nothing is `[1]`.
        """
        whole = self.whole()
        if constant.shape != whole.shape or constant.dtype != whole.dtype:
            return None
        if np.array_equal(constant, whole):
            return np.ones(1, whole.dtype)
        if whole.ndim < 2 or whole.dtype != np.float32:
            return None
        rows, targets = whole.reshape(len(whole), -1), constant.reshape(len(whole), -1)
        largest = np.abs(rows).argmax(1)[:, None]
        one, other = (np.take_along_axis(array, largest, 1) for array in (rows, targets))
        guess = np.divide(other, one, out=np.ones_like(one), where=one != 0)
        found = np.full_like(guess, np.nan)
        for ulps in (0, 1, -1, 2, -2):  # the quotient is rounded, and so was the product
            tried = (guess.view(np.int32) + np.int32(ulps)).view(np.float32)
            found = np.where((rows * tried == targets).all(1, keepdims=True), tried, found)
        return None if np.isnan(found).any() else found.reshape(-1, *[1] * (whole.ndim - 1))


def drawn_weights(program: Program) -> dict[str, DrawnWeight]:
    """Return the frozen weights that come from a seed, by the names that their constants have in ONNX."""
    found = {}
    for name, draw in frozen_draws(program).items():
        kept = program.frozen[name].cpu().numpy()
        trained = program.parameters[name].detach().cpu().numpy()
        seed = int(program.buffers[SEED]) & 0xFFFFFFFF
        drawn = Drawn(draw.distribution, draw.scale, stream_of(name), seed)
        for one in (name, *(alias for alias, held in program.aliases.items() if held == name)):
            found[one] = DrawnWeight(drawn, kept, trained)
    return found


def noted(drawn: Mapping[str, Drawn]) -> str:
    """Return the entry of the metadata."""
    tensors = {
        name: {"distribution": one.distribution, "scale": one.scale, "stream": one.stream, "transposed": one.transposed}
        for name, one in drawn.items()
    }
    return json.dumps({"runtime": "onnxruntime", "tensors": tensors})


def read_drawn(model: ir.Model) -> dict[str, Drawn]:
    """Return which weights of a model are drawn.

    Raises:
        InputError: the metadata or the seed are damaged.
    """
    if DRAWN not in model.metadata_props:
        return {}
    try:
        seed = _seed(model.graph)
        return dict(_entries(json.loads(model.metadata_props[DRAWN])["tensors"], seed))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(
            f"The entry {DRAWN} of the metadata or its seed cannot be read: the file is damaged."
        ) from None


def _seed(graph: ir.Graph) -> int:
    held = graph.initializers[SEED_VALUE].const_value
    if held is None or held.dtype != ir.DataType.INT32 or held.size != 1:
        raise ValueError
    return int(held.numpy().reshape(-1)[0]) & 0xFFFFFFFF


def _entries(tensors: Mapping[str, Mapping[str, Any]], seed: int) -> Iterator[tuple[str, Drawn]]:
    for name, entry in tensors.items():
        drawn = Drawn(str(entry["distribution"]), float(entry["scale"]), int(entry["stream"]), seed,
                      bool(entry["transposed"]))  # fmt: skip
        if drawn.distribution not in DISTRIBUTIONS or not math.isfinite(drawn.scale) or not 0 <= drawn.stream < 1 << 32:
            raise ValueError
        yield name, drawn
