"""Maps of masks: where the weights of each layer are kept, as small pictures."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from sparsify.layers import layers
from sparsify.layout import Layout
from sparsify.program import Program

__all__ = ["HeatMap", "heat_maps", "png"]

_MOST = 48  # layers
_SIDE = 48  # cells along the longer side of a map


@dataclass(frozen=True)
class HeatMap:
    """The mask of one layer.

    Attributes:
        name: of the weight.
        shape: of its matrix: outputs, and inputs with the positions of a kernel.
        density: the part of it that is kept.
        width: cells.
        height: cells.
        source: a `data:` address of a grey picture, white where all is kept and black where nothing is.
    """

    name: str
    shape: tuple[int, int]
    density: float
    width: int
    height: int
    source: str


def heat_maps(program: Program) -> tuple[list[HeatMap], int]:
    """Return maps of the masks of a program's layers, of the largest if there are many; and how many were left out."""
    masks, found = program.masks, layers(program)
    layouts: Mapping[str, Layout] = {layer.parameter: layer.layout for layer in reversed(found)}
    in_order = dict.fromkeys([*(layer.parameter for layer in found if layer.parameter in masks), *masks])
    shown = set(sorted(in_order, key=lambda name: -masks[name].numel())[:_MOST])
    maps = [_map(name, masks[name], layouts.get(name)) for name in in_order if name in shown]
    return maps, len(masks) - len(maps)


def _map(name: str, mask: Tensor, layout: Layout | None) -> HeatMap:
    flat = mask.flatten(1) if mask.ndim > 1 else mask.reshape(1, -1)
    matrix = flat if layout is None else layout.matrices(mask).flatten(0, 1)
    rows, columns = matrix.shape
    height, width = max(1, min(rows, _SIDE)), max(1, min(columns, _SIDE))
    cells = adaptive_avg_pool2d(matrix.float().cpu()[None, None], (height, width))[0, 0]
    grey = (255 * cells).round().to(torch.uint8)
    source = "data:image/png;base64," + base64.b64encode(png(grey)).decode()
    return HeatMap(name, (rows, columns), float(mask.float().mean()), width, height, source)


def png(grey: Tensor) -> bytes:
    """Return a picture `uint8[height, width]` in shades of grey as a PNG file.

    Reference: W3C, Portable Network Graphics (PNG) Specification, 2003.
    """
    height, width = grey.shape
    lines = b"".join(b"\0" + bytes(row.tolist()) for row in grey)  # each with no filter
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
