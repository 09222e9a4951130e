"""Resize: pixels between pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparsify.onnx_in.op import Op, onnx_rule

_NEAREST: dict[str, Callable[[float], float]] = {
    "round_prefer_floor": lambda x: math.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: math.floor(x + 0.5),
    "floor": math.floor,
    "ceil": math.ceil,
}
_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


@onnx_rule("Resize")
def resize(op: Op) -> Tensor:
    """Nearest, linear or cubic, along any dimensions of known size."""
    x = op.tensor(0)
    axes = [axis % x.ndim for axis in op.attribute("axes", range(x.ndim))]
    scales = op.numbers(2) if op.has(2) and op.numbers(2) else None
    sizes = op.numbers(3) if op.has(3) and op.numbers(3) else None
    mode, coordinates = op.attribute("mode", "nearest"), op.attribute("coordinate_transformation_mode", "half_pixel")
    if op.attribute("antialias", 0) or coordinates == "tf_crop_and_resize" or (scales is None) == (sizes is None):
        raise op.refused("it smooths, crops, or has not one of scales and sizes; sparsify reads the other forms")
    if op.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise op.refused("it keeps the ratio of height and width; export it with the sizes that come out")
    changes: dict[int, tuple[int, int, float]] = {}
    for place, axis in enumerate(axes):
        before = x.shape[axis]
        if scales is not None:
            if scales[place] == 1:
                continue
            changes[axis] = (int(before), math.floor(int(before) * scales[place]), scales[place])
        elif sizes is not None and not _same(before, sizes[place]):
            changes[axis] = (int(before), int(sizes[place]), int(sizes[place]) / int(before))
    fast = _interpolated(op, x, changes, mode, coordinates)
    if fast is not None:
        return fast
    for axis, (before, after, scale) in changes.items():
        places = [_place(i, before, after, scale, coordinates) for i in range(after)]
        x = _taken(op, x, axis, places, mode)
    return x


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, torch.SymInt) or isinstance(after, torch.SymInt):
        return str(before) == str(after)
    return bool(before == after)


def _place(i: int, before: int, after: int, scale: float, coordinates: str) -> float:
    """Return which place of the input a place of the result is, by the formulas of the standard.

    Runtimes compute this in 32 bits, and where it falls between two pixels, rounding decides.
    """
    place, factor, half = np.float32(i), np.float32(scale), np.float32(0.5)
    if coordinates == "asymmetric":
        return float(place / factor)
    if coordinates == "align_corners":
        return float(place * np.float32(before - 1) / np.float32(after - 1)) if after > 1 else 0.0
    if coordinates == "pytorch_half_pixel" and after <= 1:
        return 0.0
    if coordinates == "half_pixel_symmetric":
        adjusted = after / (scale * before)
        return before / 2 * (1 - adjusted) + (i + 0.5) / scale - 0.5
    return float((place + half) / factor - half)


def _interpolated(op: Op, x: Tensor, changes: Any, mode: str, coordinates: str) -> Tensor | None:
    """Return what torch's own interpolation gives, where it computes the same."""
    if x.ndim not in _LINEAR or not changes or min(changes) < 2:
        return None
    sizes = [changes[axis][1] if axis in changes else int(x.shape[axis]) for axis in range(2, x.ndim)]
    exact = all(after == before * scale for before, after, scale in changes.values())
    whole = all(after % before == 0 for before, after, _ in changes.values())
    if mode == "nearest":
        floor = coordinates == "asymmetric" and op.attribute("nearest_mode", "round_prefer_floor") == "floor"
        return F.interpolate(x, sizes, mode="nearest") if floor and exact and whole else None
    if mode != "linear" or not exact:
        return None
    if coordinates == "align_corners":
        return F.interpolate(x, sizes, mode=_LINEAR[x.ndim], align_corners=True)
    half = coordinates == "half_pixel" or (coordinates == "pytorch_half_pixel" and min(sizes) > 1)
    return F.interpolate(x, sizes, mode=_LINEAR[x.ndim], align_corners=False) if half else None


def _taken(op: Op, x: Tensor, axis: int, places: list[float], mode: str) -> Tensor:
    """Take values of one axis at places that may lie between two."""
    size = int(x.shape[axis])
    if mode == "nearest":
        rounded = _NEAREST[op.attribute("nearest_mode", "round_prefer_floor")]
        found = [min(max(int(rounded(place)), 0), size - 1) for place in places]
        return x.index_select(axis, torch.tensor(found, dtype=torch.int64, device=x.device))
    weights = np.zeros((size, len(places)))
    for column, place in enumerate(places):
        first = math.floor(place)
        parts = (
            _linear(place - first) if mode == "linear" else _cubic(place - first, op.attribute("cubic_coeff_a", -0.75))
        )
        start = first if mode == "linear" else first - 1
        if op.attribute("exclude_outside", 0):
            inside = [part if 0 <= start + i < size else 0.0 for i, part in enumerate(parts)]
            parts = [part / sum(inside) for part in inside]
        for i, part in enumerate(parts):
            weights[min(max(start + i, 0), size - 1), column] += part
    matrix = torch.tensor(weights.tolist(), dtype=x.dtype, device=x.device)
    return torch.matmul(x.movedim(axis, -1), matrix).movedim(-1, axis)


def _linear(t: float) -> list[float]:
    return [1 - t, t]


def _cubic(t: float, a: float) -> list[float]:
    """Return the weights of the four values around a place (Keys 1981)."""

    def near(s: float) -> float:
        return ((a + 2) * s - (a + 3)) * s * s + 1

    def far(s: float) -> float:
        return ((a * s - 5 * a) * s + 8 * a) * s - 4 * a

    return [far(1 + t), near(t), near(1 - t), far(2 - t)]
