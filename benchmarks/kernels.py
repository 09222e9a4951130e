"""Claim: on a GPU sparse layers beat the best dense layer by what their regime allows, and a layer is never slower.

bfloat16. Dense is the faster of cuBLAS (`F.linear`) and what torch.compile makes of it; for 2:4 cuSPARSELt is one of
the ways that the dispatcher measures. In turns, medians, the second-level cache emptied before every call; batches of
up to 64 as CUDA graphs, so that starting kernels costs nothing.

Limits: up to 64 inputs a layer is bound by the bytes of its weight: 2:4 takes 1.125 of 2, bits at 70% 1.11 (0.725 if
nothing were decoded), index at 90% 0.4, tiles what is kept of them. Above it is bound by multiplications: 2:4 halves
them, tiles leave what is kept.

Reading: a speed-up is dense time over sparse time, `must` the goal of a regime. Needs a GPU; without one nothing is
measured or written. About five minutes.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from common import QUICK, save, table
from torch import Tensor
from torch.nn import functional as F

from sparsify.kernel_bench import _encoded
from sparsify.kernels import _measured, _on_gpu
from sparsify.lowering.sites import FORMS, operator_of

TURNS = 5 if QUICK else 25


class Regime(NamedTuple):
    """Layers of one kind, and how much faster than dense they should be."""

    kind: str
    shapes: tuple[tuple[int, int], ...]
    batches: tuple[int, ...]
    must: float
    strong: float
    ceiling: float
    trains: bool = False


WIDE = ((4096, 14336), (14336, 4096))
REGIMES = (
    Regime("2:4", WIDE, (1, 4, 16), 1.4, 1.6, 1.78),
    Regime("2:4", WIDE, (32, 64), 1.3, 1.5, 1.78),
    Regime("2:4", ((4096, 4096), (8192, 8192)), (4096, 8192), 1.15, 1.35, 2.0),
    Regime("block64 90%", WIDE, (1, 16, 64), 3, 6, 10),
    Regime("block128 80%", ((4096, 4096), WIDE[0]), (8192,), 1.8, 3, 5),
    Regime("block128 80%", ((4096, 4096),), (8192,), 1.4, 2.2, 5, trains=True),
    Regime("bitmask 70%", WIDE, (1, 8, 16), 1.2, 1.8, 2.54),
    Regime("index 90%", WIDE, (1,), 2, 3.5, 5),
)


def as_graph(call: Callable[[], object]) -> Callable[[], object]:
    """Return the replay of a call."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def medians(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median milliseconds of some calls, in turns."""
    flushed = torch.empty(256 << 20, dtype=torch.int8, device="cuda")
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(TURNS):
        for name in list(calls)[:: 1 if turn % 2 else -1]:
            for call in range(4):
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                flushed.zero_()
                begin.record()
                calls[name]()
                end.record()
                end.synchronize()
                if call:
                    samples[name].append(begin.elapsed_time(end))
    return {name: statistics.median(values) for name, values in samples.items()}


def step(layer: Callable[..., Tensor], x: Tensor, weight: Tensor, upstream: Tensor) -> Callable[[], object]:
    """Return a training step of a layer: forward, and the gradients of x and of the weight."""
    leaves = x.clone().requires_grad_(), weight.clone().requires_grad_()

    def run() -> object:
        return torch.autograd.grad(layer(*leaves), leaves, upstream)

    return run


def measure(regime: Regime, shape: tuple[int, int], batch: int) -> dict[str, Any]:
    """Measure one layer."""
    generator = torch.Generator("cuda").manual_seed(0)
    weight = torch.randn(shape, generator=generator, device="cuda").bfloat16()
    found = _encoded(regime.kind, weight, generator)
    dense, x = found.decode(), torch.randn(batch, shape[1], generator=generator, device="cuda").bfloat16()
    form, operator = FORMS[type(found)], operator_of(type(found))
    values, *others = (found.tensors[name] for name in ("values", *form.others))
    numbers = form.numbers(found)

    def sparse(x: Tensor, values: Tensor) -> Tensor:
        return operator(x, values, *others, None, "none", **numbers)

    upstream = torch.randn(batch, shape[0], generator=generator, device="cuda").bfloat16()
    with torch.no_grad(), _on_gpu.tuning() as taken:
        out = sparse(x, values)
    exact = F.linear(x.double(), dense.double())
    gap = float((out.double() - exact).abs().max() / exact.abs().max())
    assert gap < 0.02, f"{regime.kind} {shape} batch {batch} differs by {gap}"
    compiled = torch.compile(F.linear, mode="max-autotune-no-cudagraphs")
    layers = {"cublas": F.linear, "compiled": compiled} if batch <= 64 else {"cublas": F.linear}
    if regime.trains:
        calls = {name: step(layer, x, dense, upstream) for name, layer in layers.items()}
        calls["sparse"] = step(sparse, x, values, upstream)
        times = medians(calls)
    else:
        with torch.no_grad():
            calls = {name: lambda layer=layer: layer(x, dense) for name, layer in layers.items()}
            calls["sparse"] = lambda: sparse(x, values)
            times = medians({name: as_graph(call) if batch <= 64 else call for name, call in calls.items()})
    best = min(times[name] for name in layers)
    return {"ms": times, "speed": best / times["sparse"], "way": taken[-1], "difference": gap}


def main() -> None:
    """Measure, and judge."""
    if not torch.cuda.is_available():
        print("kernels: there is no GPU here, so nothing is measured.")
        return
    results: dict[str, Any] = {}
    rows, texts, holds = [], [], True
    for regime in REGIMES:
        least = float("inf")
        for shape in regime.shapes[: 1 if QUICK else None]:
            for batch in regime.batches:
                name = f"{regime.kind}{' training' if regime.trains else ''}, {shape[0]}x{shape[1]}, batch {batch}"
                results[name] = found = measure(regime, shape, batch)
                least = min(least, found["speed"])
                rows.append([name, *(f"{found['ms'].get(key, float('nan')):.4f}" for key in ("cublas", "compiled",
                             "sparse")), f"{found['speed']:.2f}", str(regime.must), found["way"]])  # fmt: skip
        holds &= least >= regime.must
        texts.append(f"{regime.kind}{' training' if regime.trains else ''} {least:.2f} (must {regime.must:g})")
    table(["layer", "cuBLAS ms", "compiled", "sparse", "speed", "must", "kernel"], rows)
    results["table"] = _measured.known(_measured.device_name(torch.device("cuda")))
    save(
        __file__,
        "on a GPU sparse layers beat the best dense layer by what their regime must",
        holds,
        f"on {torch.cuda.get_device_name()}, least speed-up of each regime: {', '.join(texts)}.",
        results,
    )


if __name__ == "__main__":
    main()
