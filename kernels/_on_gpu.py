"""Which kernel a GPU runs for a layer: the one that was measured to be the fastest, else the one that should be.

A layer can be computed in several ways. They are listed by name, the one that should be the fastest first; the last is
dense: plain torch, with a weight that is written out once and kept, so that a layer without a kernel is as fast as it
was. Another way is taken over dense only if it measures `GAIN` times as fast.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from sparsify.errors import first_line
from sparsify.kernels import _cusparselt, _measured
from sparsify.kernels._activations import activated, check
from sparsify.kernels._linear import dense_linear, fitting
from sparsify.kernels._remembered import remembered
from sparsify.kernels._timing import least

__all__ = ["GAIN", "best", "bitmask", "block", "block_inputs", "block_tiles", "index", "nm", "tuning", "usable"]

GAIN = 1.03
"""How many times as fast as dense a way must measure to be taken: less is not worth its memory and its rounding."""

_Ways = dict[str, Callable[[], Tensor]]

_SIXTEEN = (torch.bfloat16, torch.float16)
_ROUNDING = 0.02  # of the largest number: two ways add up in different orders, and round to 8 bits
_UNPROVEN = "cusparselt"  # ways that are often slower than dense: without a measurement they are not taken
_TAKEN: list[str] | None = None
_FAILED: set[tuple[str, str, str]] = set()  # device, problem, way


def usable(x: Tensor) -> bool:
    """Tell whether there may be kernels for a tensor."""
    return x.is_cuda and torch.version.hip is None and _ampere(x.device)


@functools.cache
def _ampere(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)


@contextmanager
def tuning() -> Iterator[list[str]]:
    """Let GPUs measure all ways of a problem that is not in their table, and note them there.

    Yields:
        A list to which the ways that are taken meanwhile are added.
    """
    global _TAKEN  # noqa: PLW0603 -- operators have no argument for it
    before, _TAKEN = _TAKEN, list[str]()
    try:
        yield _TAKEN
    finally:
        _TAKEN = before


def best(key: str, device: torch.device, ways: _Ways) -> Tensor:
    """Return what the fastest way computes, or, when nothing was measured, the first that works.

    Args:
        key: the problem, as in the table of measurements.
        device: where.
        ways: by name, the plain one last.
    """
    name = _measured.device_name(device)
    times = _measured.known(name).get(key, {})
    if _TAKEN is not None and not times:
        times = least(_agreeing(ways, key), device, launched=True)
        _measured.note(name, key, times)
    plain = next(reversed(ways))
    for way in _in_order(ways, times):
        if way == plain:
            break
        if (name, key, way) not in _FAILED:
            try:
                found = ways[way]()
            except Exception as error:  # such as too little shared memory: another way can do it
                if isinstance(error, ValueError):  # the arguments are wrong, in every way
                    raise
                _FAILED.add((name, key, way))
                warnings.warn(f"{key}: {way} fails ({first_line(error)}).", RuntimeWarning, stacklevel=2)
            else:
                return _noted(way, found)
    return _noted(plain, ways[plain]())


def _in_order(ways: _Ways, times: Mapping[str, float]) -> list[str]:
    """Return which ways to try one after the other: those that measured faster than the plain one, and that."""
    plain = next(reversed(ways))
    known = sorted((way for way in ways if way in times), key=times.__getitem__)
    if not known:
        return [way for way in ways if not way.startswith(_UNPROVEN)]
    limit = times.get(plain, float("inf"))
    return [*(way for way in known if way != plain and GAIN * times[way] <= limit), plain]


def _noted(way: str, found: Tensor) -> Tensor:
    if _TAKEN is not None:
        _TAKEN.append(way)
    return found


def _agreeing(ways: _Ways, key: str) -> _Ways:
    """Return the ways that compute what the last one does; warn of others, which are never used here again."""
    *others, last = ways
    expected = ways[last]().double()
    finite = expected.isfinite()
    scale = float(expected[finite].abs().max()) if finite.any() else 0.0
    found = {}
    for name in others:
        try:
            gaps = (ways[name]().double() - expected)[finite].abs()
            gap = float(gaps.max()) if gaps.numel() else 0.0
            reason = f"differs by {gap:.2g}" if not gap <= _ROUNDING * max(scale, 1e-6) else ""
        except Exception as error:  # noqa: BLE001 -- as above
            reason = f"fails ({first_line(error)})"
        if reason:
            warnings.warn(f"{key}: {name} {reason} and is not used.", RuntimeWarning, stacklevel=2)
        else:
            found[name] = ways[name]
    return {**found, last: ways[last]}


def _run(
    operator: str, x: Tensor, outputs: int, detail: str, activation: str, ways_of: Callable[[Tensor], _Ways]
) -> Tensor:
    """Compute a layer for `x`, `[..., K]`, in the best of the ways that there are for its rows."""
    check(activation)
    rows = x.reshape(-1, x.shape[-1])
    key = _measured.key_of(operator, x.dtype, (outputs, x.shape[-1]), len(rows), detail)
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        return best(key, x.device, ways_of(rows)).view(*x.shape[:-1], outputs)


def _dense(
    x: Tensor, tensors: Sequence[Tensor], write: Callable[[], Tensor], bias: Tensor | None, activation: str
) -> _Ways:
    return {"dense": lambda: dense_linear(x, tensors, write, bias, activation)}


def _share(values: Tensor, outputs: int, inputs: int) -> str:
    """Return how much is kept, to 5%, as measurements name it."""
    return f"{5 * round(20 * values.numel() / max(1, outputs * inputs))}% kept"


def nm(
    x: Tensor, values: Tensor, codes: Tensor, bias: Tensor | None, activation: str, dense: Callable[[], Tensor]
) -> Tensor:
    """Compute a layer whose weight is 2:4.

    Args:
        x: `[..., K]`.
        values: of the format.
        codes: of the format.
        bias: `[N]`.
        activation: of the layer.
        dense: writes the weight out.
    """
    outputs, inputs = values.shape[0], x.shape[-1]
    bias = fitting(bias, outputs, x)

    def ways(rows: Tensor) -> _Ways:
        found: dict[str, Callable[[], Tensor]] = {}
        if x.dtype == values.dtype and x.dtype in _SIXTEEN and len(rows):
            from sparsify.kernels import _fragments, _nm_decode

            def decode(plan: _fragments.Plan) -> Tensor:
                stored = remembered("fragments", (values, codes), lambda: _nm_decode.arranged(values, codes, inputs))
                steps = -(-inputs // 64)
                return _fragments.launch(_nm_decode.nm_decode, rows, stored, outputs, steps, bias, activation, plan)

            if len(rows) <= _fragments.MOST:
                for plan in _nm_decode.PLANS[_fragments.batch_tiles(len(rows))]:
                    found[f"decode {plan}"] = functools.partial(decode, plan)
            if _cusparselt.available() and outputs % 32 == 0 and inputs % 32 == 0:

                def compressed(multiply: Callable[..., Tensor]) -> Tensor:
                    weight = remembered("cusparselt", (values, codes), lambda: torch._cslt_compress(dense()))
                    return activated(multiply(rows, weight, bias), activation)

                found["cusparselt"] = functools.partial(compressed, _cusparselt.multiply)
                found["cusparselt searched"] = functools.partial(compressed, _cusparselt.multiply_searched)
        return {**found, **_dense(rows, (values, codes), dense, bias, activation)}

    return _run("nm_linear", x, outputs, "2:4", activation, ways)


def bitmask(
    x: Tensor, tensors: Sequence[Tensor], mask: Callable[[], Tensor], bias: Tensor | None, activation: str,
    dense: Callable[[], Tensor],
) -> Tensor:  # fmt: skip
    """Compute a layer whose mask is bits; `tensors` are those of the format, `mask` writes out what is kept."""
    outputs, inputs = tensors[1].shape[0], x.shape[-1]
    bias = fitting(bias, outputs, x)

    def ways(rows: Tensor) -> _Ways:
        found: dict[str, Callable[[], Tensor]] = {}
        if x.dtype == tensors[0].dtype and x.dtype in _SIXTEEN and len(rows):
            from sparsify.kernels import _bitmask_decode, _fragments

            def decode(plan: _fragments.Plan) -> Tensor:
                stored = remembered("fragments", tensors, lambda: _bitmask_decode.arranged(mask(), dense()))
                kernel, steps = _bitmask_decode.bitmask_decode, -(-inputs // 32)
                return _fragments.launch(kernel, rows, stored, outputs, steps, bias, activation, plan)

            for plan in _bitmask_decode.PLANS.get(_fragments.batch_tiles(len(rows)), ()):
                found[f"decode {plan}"] = functools.partial(decode, plan)
        return {**found, **_dense(rows, tensors, dense, bias, activation)}

    return _run("bitmask_linear", x, outputs, _share(tensors[0], outputs, inputs), activation, ways)


def index(
    x: Tensor, tensors: tuple[Tensor, Tensor, Tensor], bias: Tensor | None, activation: str,
    verify: Callable[[], None], dense: Callable[[], Tensor],
) -> Tensor:  # fmt: skip
    """Compute a layer of kept weights with their columns; `tensors` are those of the format, which `verify` checks."""
    outputs, inputs = tensors[2].shape[0] - 1, x.shape[-1]
    bias = fitting(bias, outputs, x)

    def ways(rows: Tensor) -> _Ways:
        found: dict[str, Callable[[], Tensor]] = {}
        if x.dtype == tensors[0].dtype and x.dtype in _SIXTEEN and inputs < 1 << 16:
            from sparsify.kernels import _index_decode

            def stored() -> tuple[Tensor, Tensor]:
                verify()
                return _index_decode.arranged(*tensors, inputs)

            def decode(plan: _index_decode.Plan) -> Tensor:
                weight = remembered("slices", tensors, stored)
                return _index_decode.multiply(rows, weight, outputs, bias, activation, plan)

            for plan in _index_decode.PLANS if 0 < len(rows) <= _index_decode.MOST else ():
                found[f"decode {plan}"] = functools.partial(decode, plan)
        return {**found, **_dense(rows, tensors, dense, bias, activation)}

    return _run("index_linear", x, outputs, _share(tensors[0], outputs, inputs), activation, ways)


def block(
    x: Tensor, tensors: tuple[Tensor, Tensor, Tensor], bias: Tensor | None, activation: str, outputs: int,
    tiles: Callable[[Tensor], Tensor], dense: Callable[[], Tensor],
) -> Tensor:  # fmt: skip
    """Compute a layer of tiles.

    Args:
        x: `[..., K]`.
        tensors: of the format.
        bias: `[N]`.
        activation: of the layer.
        outputs: N.
        tiles: computes it as products of a batch.
        dense: writes the weight out.
    """
    values, columns, offsets = tensors
    inputs, (height, width), places = x.shape[-1], values.shape[1:], (columns, offsets)
    bias = fitting(bias, outputs, x)

    def ways(rows: Tensor) -> _Ways:
        found: dict[str, Callable[[], Tensor]] = {}
        if _fits(rows, values):
            from sparsify.kernels import _block_products

            def multiply(plan: _block_products.Plan) -> Tensor:
                given, stored = rows.contiguous(), values.contiguous()
                return _block_products.multiply(given, stored, (None, *places), outputs, bias, activation, plan)

            for plan in _block_products.PLANS["few" if len(rows) <= 64 else "many"]:
                found[f"tiles {plan}"] = functools.partial(multiply, plan)
        return {**found, "batched": lambda: tiles(rows), **_dense(rows, tensors, dense, bias, activation)}

    detail = f"{height}x{width} {_share(values, outputs, inputs)}"
    return _run("block_linear", x, outputs, detail, activation, ways)


def block_inputs(upstream: Tensor, values: Tensor, columns: Tensor, offsets: Tensor, inputs: int) -> Tensor | None:
    """Return the gradient of the inputs, `[M, K]`, of a layer of tiles; None where there is no kernel for it."""
    if not _fits(upstream, values):
        return None
    from sparsify.kernels import _block_products as products

    across = -(-inputs // values.shape[2])
    index = remembered("transposed", (columns, offsets), lambda: products.transposed(columns, offsets, across))
    plan = products.PLANS["few" if len(upstream) <= 64 else "many"][0]
    return products.multiply(
        upstream.contiguous(), values.contiguous(), index, inputs, None, "none", plan, backward=True
    )


def block_tiles(upstream: Tensor, x: Tensor, values: Tensor, rows: Tensor, columns: Tensor) -> Tensor | None:
    """Return the gradients of the tiles, `[T, rows, columns]`; None where there is no kernel for it."""
    if not _fits(upstream, values):
        return None
    from sparsify.kernels import _block_products as products

    return products.gradients(upstream.contiguous(), x.contiguous(), rows.int(), columns, *values.shape[1:])


def _fits(x: Tensor, values: Tensor) -> bool:
    """Whether there are kernels for tiles: in float32 the largest would not fit in registers."""
    sizes = (16, 32, 64, 128) if x.dtype in _SIXTEEN else (16, 32, 64) if x.dtype == torch.float32 else ()
    return x.dtype == values.dtype and x.shape[0] > 0 and all(size in sizes for size in values.shape[1:])
