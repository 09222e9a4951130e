"""Which kernel a GPU runs for a layer: the one that was measured to be the fastest, else the one that should be.

Every function returns the ways to compute a product, by name, the one that should be the fastest first. `dense`, in
which the weight is written out, is the last of them.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from sparsify.kernels import _measured
from sparsify.kernels._activations import activated
from sparsify.kernels._remembered import remembered
from sparsify.kernels._timing import medians

__all__ = ["Ways", "best", "bitmask_ways", "block_backward", "block_ways", "index_ways", "nm_ways", "tuning", "usable"]

Ways = Mapping[str, Callable[[], Tensor]]

_SIXTEEN = (torch.bfloat16, torch.float16)
_ROUNDING = 0.02  # of the largest number: two ways add up in different orders, and round to 8 bits
_TUNING = False


def usable(x: Tensor) -> bool:
    """Tell whether there may be kernels for a tensor."""
    return x.is_cuda and torch.version.hip is None and _ampere(x.device)


@functools.cache
def _ampere(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)


@contextmanager
def tuning() -> Iterator[None]:
    """Let GPUs measure all ways of a problem that is not in their table, and note them there."""
    global _TUNING  # noqa: PLW0603 -- operators have no argument for it
    before, _TUNING = _TUNING, True
    try:
        yield
    finally:
        _TUNING = before


def best(key: str, device: torch.device, ways: Ways) -> Tensor:
    """Return what the fastest way computes, or, when nothing was measured, the first."""
    name = _measured.device_name(device)
    times = _measured.known(name).get(key, {})
    if _TUNING and not times:
        times = medians(_agreeing(ways, key), device)
        _measured.note(name, key, times)
    known = [name for name in ways if name in times]
    return ways[min(known, key=times.__getitem__) if known else next(iter(ways))]()


def _agreeing(ways: Ways, key: str) -> Ways:
    """Return the ways that compute what the last one does; warn of others, which are never used here again."""
    *_, last = ways
    expected = ways[last]().double()
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    found = {}
    for name, way in ways.items():
        gap = float((way().double() - expected).abs().max()) if expected.numel() else 0.0
        if gap <= _ROUNDING * max(scale, 1e-6):
            found[name] = way
        else:
            warnings.warn(f"{key}: {name} differs by {gap:.2g} and is not used.", RuntimeWarning, stacklevel=2)
    return found


def nm_ways(
    x: Tensor, values: Tensor, codes: Tensor, bias: Tensor | None, activation: str, dense: Callable[[], Tensor]
) -> Ways:
    """Return the ways to multiply `x`, `[M, K]`, with a 2:4 weight.

    Args:
        x: on a GPU.
        values: of the format.
        codes: of the format.
        bias: `[N]`.
        activation: of the layer.
        dense: writes the weight out.
    """
    batch, inputs = x.shape
    ways: dict[str, Callable[[], Tensor]] = {}
    if x.dtype in _SIXTEEN and batch:
        from sparsify.kernels import _fragments, _nm_decode

        if batch <= _fragments.MOST:

            def decode(plan: _fragments.Plan) -> Tensor:
                stored = remembered("fragments", (values, codes), lambda: _nm_decode.arranged(values, codes, inputs))
                return _fragments.launch(
                    _nm_decode.nm_decode, x, stored, values.shape[0], -(-inputs // 64), bias, activation, plan
                )

            for plan in _nm_decode.PLANS[_fragments.batch_tiles(batch)]:
                ways[f"decode {plan}"] = functools.partial(decode, plan)
        if _cusparselt() and values.shape[0] % 32 == 0 and inputs % 32 == 0:

            def compressed() -> Tensor:
                kind = torch.sparse.SparseSemiStructuredTensorCUSPARSELT
                weight = remembered("cusparselt", (values, codes), lambda: kind.from_dense(dense()))
                return activated(F.linear(x, weight, bias), activation)

            ways["cusparselt"] = compressed
    return {**ways, "dense": lambda: activated(F.linear(x, dense(), bias), activation)}


@functools.cache
def _cusparselt() -> bool:
    return bool(torch.backends.cusparselt.is_available())


def bitmask_ways(
    x: Tensor, tensors: Sequence[Tensor], mask: Callable[[], Tensor], bias: Tensor | None, activation: str,
    dense: Callable[[], Tensor],
) -> Ways:  # fmt: skip
    """Return the ways to multiply `x`, `[M, K]`, with a weight whose mask is bits; `tensors` are the format's."""
    batch, inputs = x.shape
    ways: dict[str, Callable[[], Tensor]] = {}
    if x.dtype in _SIXTEEN and 0 < batch <= 16:
        from sparsify.kernels import _bitmask_decode, _fragments

        def decode(plan: _fragments.Plan) -> Tensor:
            stored = remembered("fragments", tensors, lambda: _bitmask_decode.arranged(mask(), dense()))
            rows = tensors[1].shape[0]
            return _fragments.launch(
                _bitmask_decode.bitmask_decode, x, stored, rows, -(-inputs // 32), bias, activation, plan
            )

        for plan in _bitmask_decode.PLANS[_fragments.batch_tiles(batch)]:
            ways[f"decode {plan}"] = functools.partial(decode, plan)
    return {**ways, "dense": lambda: activated(F.linear(x, dense(), bias), activation)}


def index_ways(
    x: Tensor, values: Tensor, columns: Tensor, offsets: Tensor, bias: Tensor | None, activation: str,
    dense: Callable[[], Tensor],
) -> Ways:  # fmt: skip
    """Return the ways to multiply `x`, `[M, K]`, with kept weights and their columns."""
    batch, inputs = x.shape
    ways: dict[str, Callable[[], Tensor]] = {}
    if x.dtype in _SIXTEEN and inputs < 1 << 16:
        from sparsify.kernels import _index_decode

        if 0 < batch <= _index_decode.MOST:

            def decode(plan: _index_decode.Plan) -> Tensor:
                stored = remembered(
                    "slices", (values, columns, offsets),
                    lambda: _index_decode.arranged(values, columns, offsets, inputs),
                )  # fmt: skip
                return _index_decode.multiply(x, stored, offsets.shape[0] - 1, bias, activation, plan)

            for plan in _index_decode.PLANS:
                ways[f"decode {plan}"] = functools.partial(decode, plan)
    return {**ways, "dense": lambda: activated(F.linear(x, dense(), bias), activation)}


def block_ways(
    x: Tensor, values: Tensor, columns: Tensor, offsets: Tensor, bias: Tensor | None, activation: str, outputs: int,
    tiles: Callable[[], Tensor],
) -> Ways:  # fmt: skip
    """Return the ways to multiply `x`, `[M, K]`, with tiles; `tiles` computes it as products of a batch."""
    ways: dict[str, Callable[[], Tensor]] = {}
    if _fits(x, values):
        from sparsify.kernels import _block_products

        def multiply(plan: _block_products.Plan) -> Tensor:
            index = (None, columns, offsets)
            return _block_products.multiply(x.contiguous(), values.contiguous(), index, outputs, bias, activation, plan)

        for plan in _block_products.PLANS["few" if x.shape[0] <= 64 else "many"]:
            ways[f"tiles {plan}"] = functools.partial(multiply, plan)
    return {**ways, "batched": tiles}


def block_backward(
    upstream: Tensor, x: Tensor, values: Tensor, columns: Tensor, offsets: Tensor, rows: Tensor
) -> tuple[Callable[[], Tensor], Callable[[], Tensor]] | None:
    """Return what computes the gradients of x and of the tiles, or None where there are no kernels for it."""
    if not _fits(x, values):
        return None
    from sparsify.kernels import _block_products as products

    inputs, (height, width) = x.shape[1], values.shape[1:]
    g, given = upstream.contiguous(), x.contiguous()

    def of_x() -> Tensor:
        index = remembered(
            "transposed", (columns, offsets), lambda: products.transposed(columns, offsets, -(-inputs // width))
        )
        plan = products.PLANS["few" if x.shape[0] <= 64 else "many"][0]
        return products.multiply(g, values.contiguous(), index, inputs, None, "none", plan, backward=True)

    return of_x, lambda: products.gradients(g, given, rows.int(), columns, height, width)


def _fits(x: Tensor, values: Tensor) -> bool:
    sizes = values.shape[1:]
    kinds = (*_SIXTEEN, torch.float32)
    return x.dtype in kinds and x.shape[0] > 0 and all(size in (16, 32, 64, 128) for size in sizes)
