"""Claim: on a GPU sparse layers beat the best dense layer by what their regime must, and no lowered layer is slower.

bfloat16. Dense is the faster of cuBLAS (`F.linear`) and what torch.compile makes of it (max-autotune), at every batch.
cuSPARSELt stands beside it as a rival with the fastest of its algorithms: its own search, and every number tried. In
turns, medians, the second-level cache emptied before every call, and the GPU kept busy until all is launched; batches
of up to 64 as CUDA graphs, so that starting kernels costs nothing. Kernels are chosen here, not from an earlier table.

Limits: up to 64 inputs a layer is bound by the bytes of its weight: 2:4 takes 1.125 of 2, bits at 70% 1.11 (0.725 if
nothing were decoded), index at 90% 0.4, tiles what is kept of them. Above it is bound by multiplications: 2:4 halves
them, tiles leave what is kept.

Reading: a speed-up is dense time over sparse time; `must`, `strong` and `ceiling` are the goals of a regime. At the end
stand layers that `lower` lowered, in the format and by the kernel that it chose, with at least 0.98 of dense. Needs a
GPU; without one nothing is measured or written, and `--quick` runs all of it once on small matrices, to try it out.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from common import QUICK, save, table
from torch import Tensor, nn
from torch.nn import functional as F

import sparsify as sp
from sparsify.kernel_bench import encoded
from sparsify.kernels import _cusparselt, _measured, _on_gpu
from sparsify.kernels._timing import least
from sparsify.lowering.sites import FORMS, operator_of
from sparsify.masking import baked

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
TURNS, CALLS = (5 if GPU else 1) if QUICK else 20, 3
SMALLER = 1 if GPU else 16  # what sizes are divided by where the script is only tried out
AHEAD = 6  # times that 256 MB are written before a call: half a millisecond in which it is launched
PATIENCE = 270  # seconds after which nothing more is compiled for dense layers, so that a run ends within eight minutes
HIGHEST = 63  # number of an algorithm of cuSPARSELt that is tried
GRAPHS = 64  # the largest batch that is measured as a graph
ROUNDING = 0.02  # of the largest number
START = time.perf_counter()


class Regime(NamedTuple):
    """Layers of one kind, and how much faster than dense they should be."""

    kind: str
    shapes: tuple[tuple[int, int], ...]
    batches: tuple[int, ...]
    must: float
    strong: float
    ceiling: float
    trains: bool = False

    @property
    def name(self) -> str:
        """What it is called in tables."""
        span = f"{self.batches[0]}-{self.batches[-1]}" if len(self.batches) > 1 else str(self.batches[0])
        return f"{self.kind}{' training' if self.trains else ''}, batch {span}"


WIDE = ((4096, 14336), (14336, 4096))
REGIMES = (
    Regime("2:4", WIDE, (1, 4, 16), 1.4, 1.6, 1.78),
    Regime("2:4", WIDE, (32, 64), 1.3, 1.5, 1.78),
    Regime("block64 90%", WIDE, (1, 16, 64), 3, 6, 10),
    Regime("bitmask 70%", WIDE, (1, 4, 16), 1.2, 1.8, 2.54),
    Regime("index 90%", WIDE, (1,), 2, 3.5, 5),
    Regime("2:4", ((4096, 4096), (8192, 8192)), (4096, 8192), 1.15, 1.35, 2.0),
    Regime("block128 80%", ((4096, 4096), WIDE[0]), (8192,), 1.8, 3, 5),
    Regime("block128 80%", ((4096, 4096),), (8192,), 1.4, 2.2, 5, trains=True),
)
LEAST, WANTED = 0.98, 1.0  # what a lowered layer must be, and should be
LOWERED = ((1024, 1024), (4096, 14336))
PRUNINGS = {
    "2:4": "pattern=2:4",
    "90%": "sparsity=0.9,scope=layer",
    "block64 80%": "pattern=block64x64,sparsity=0.8,scope=layer",
}
SERVED = (1, 16, 128, 2048)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Return the dense layer, for torch.compile."""
    return F.linear(x, weight)


def as_graph(call: Callable[[], object]) -> Callable[[], object]:
    """Return the replay of a call; elsewhere than on a GPU the call."""
    if not GPU:
        return call
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def once(call: Callable[[], object], flushed: Tensor) -> float:
    """Return the milliseconds of a call."""
    if not GPU:
        start = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - start)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(AHEAD):
        flushed.zero_()
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def medians(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median milliseconds of some calls, in turns; the first call of a turn does not count."""
    flushed = torch.empty(256 << 20 if GPU else 0, dtype=torch.int8, device=DEVICE)
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(TURNS):
        for name in list(calls)[:: 1 if turn % 2 else -1]:
            samples[name] += [once(calls[name], flushed) for _ in range(1 + CALLS)][1:]
    return {name: statistics.median(values) for name, values in samples.items()}


def step(layer: Callable[..., Tensor], x: Tensor, weight: Tensor, upstream: Tensor) -> Callable[[], object]:
    """Return a training step of a layer: forward, and the gradients of x and of the weight."""
    leaves = x.clone().requires_grad_(), weight.clone().requires_grad_()

    def run() -> object:
        return torch.autograd.grad(layer(*leaves), leaves, upstream)

    return run


def dense_layers(x: Tensor, weight: Tensor, compiled: Callable[..., Tensor]) -> dict[str, Callable[..., Tensor]]:
    """Return the dense layers by name; the compiled one only while there is time to compile, and if it can be."""
    layers: dict[str, Callable[..., Tensor]] = {"cublas": F.linear}
    if GPU and time.perf_counter() - START < PATIENCE:
        try:
            compiled(x, weight)
            layers["compiled"] = compiled
        except Exception as error:  # noqa: BLE001 -- one compiler that fails must not cost the run
            print(f"torch.compile fails for {list(x.shape)} and {list(weight.shape)}: {error}")
    return layers


def rival(dense: Tensor, x: Tensor, exact: Tensor) -> tuple[Callable[[], object], str] | None:
    """Return the product in the fastest algorithm of cuSPARSELt, and what it is called; None if it has none."""
    if not (GPU and _cusparselt.available()):
        return None
    compressed = torch._cslt_compress(dense)
    tried, highest = [_cusparselt.Algorithm()], HIGHEST
    try:
        found, told = _cusparselt.search(x, compressed, None)
        tried, highest = [*tried, found], min(told or HIGHEST, HIGHEST)
    except RuntimeError as error:
        print(f"cuSPARSELt cannot search for {list(dense.shape)}, batch {len(x)}: {error}")
    tried += [_cusparselt.Algorithm(number) for number in range(1, highest + 1)]
    times: dict[_cusparselt.Algorithm, float] = {}
    for algorithm in dict.fromkeys(tried):
        try:
            if not agrees(_cusparselt.multiply(x, compressed, None, algorithm), exact):
                continue
            call = {"": lambda algorithm=algorithm: _cusparselt.multiply(x, compressed, None, algorithm)}
            times[algorithm] = least(call, DEVICE, seconds=0, turns=1, launched=True)[""]
        except RuntimeError:  # this one does not know the sizes
            continue
    if not times:
        return None
    best = min(times, key=times.__getitem__)
    return lambda: _cusparselt.multiply(x, compressed, None, best), f"number {best.number} split {best.split}"


def agrees(found: Tensor, exact: Tensor) -> bool:
    """Whether a product is right up to rounding."""
    return bool((found.double() - exact).abs().max() <= ROUNDING * exact.abs().max())


def measure(regime: Regime, shape: tuple[int, int], batch: int, compiled: Callable[..., Tensor]) -> dict[str, Any]:
    """Measure one layer."""
    generator = torch.Generator(DEVICE).manual_seed(0)

    def numbers(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, device=DEVICE).bfloat16()

    found = encoded(regime.kind, numbers(*shape), generator)
    dense, x, upstream = found.decode(), numbers(batch, shape[1]), numbers(batch, shape[0])
    form, operator = FORMS[type(found)], operator_of(type(found))
    values, *others = (found.tensors[name] for name in ("values", *form.others))

    def sparse(x: Tensor, values: Tensor) -> Tensor:
        return operator(x, values, *others, None, "none", **form.numbers(found))

    layers: dict[str, Callable[..., Tensor]] = {}
    with torch.set_grad_enabled(regime.trains):
        layers = dense_layers(x.clone().requires_grad_(regime.trains), dense, compiled)
    with torch.no_grad(), _on_gpu.tuning() as taken:
        out, exact = sparse(x, values), F.linear(x.double(), dense.double())
    assert agrees(out, exact), f"{regime.kind} {shape} batch {batch} is wrong"
    told: dict[str, Any] = {"way": taken[-1] if taken else "reference"}
    if regime.trains:
        calls = {name: step(layer, x, dense, upstream) for name, layer in layers.items()}
        calls["sparse"] = step(sparse, x, values, upstream)
        times = medians(calls)
    else:
        calls = {name: lambda layer=layer: layer(x, dense) for name, layer in layers.items()}
        calls["sparse"] = lambda: sparse(x, values)
        if regime.kind == "2:4" and (other := rival(dense, x, exact)) is not None:
            calls["cusparselt"], told["algorithm"] = other
        del exact
        with torch.no_grad():
            times = medians({name: as_graph(call) if batch <= GRAPHS else call for name, call in calls.items()})
    best = min(times[name] for name in layers)
    return {"ms": times, "speed": {name: best / times[name] for name in ("sparse", "cusparselt") if name in times},
            **told}  # fmt: skip


def lowered_layers() -> dict[str, Any]:
    """Measure layers that `lower` lowered for a batch, beside the same layer with zeros in its weight."""
    results: dict[str, Any] = {}
    for shape in LOWERED[: 1 if QUICK else None]:
        outputs, inputs = (max(256, size // SMALLER) for size in shape)
        for kind, spec in PRUNINGS.items():
            torch.manual_seed(0)
            layer = nn.Sequential(nn.Linear(inputs, outputs)).to(DEVICE).bfloat16()
            program = sp.capture(layer, (torch.randn(2, inputs, device=DEVICE).bfloat16(),))
            pruned = sp.run(program, [f"weight-prune:{spec}"], verify=False).program
            for batch in SERVED[: 2 if QUICK else None]:
                result = sp.run(pruned, [f"lower:batch={batch}"], verify=False)
                (choice,) = result.report["passes"][0]["choices"].values()
                x = torch.randn(batch, inputs, device=DEVICE).bfloat16()
                dense, low = (program.module() for program in (baked(pruned), result.program))
                with torch.no_grad():
                    expected = dense(x).double()
                    assert agrees(low(x), expected), f"{kind} {shape} batch {batch} is wrong when lowered"
                    times = medians({"dense": as_graph(lambda dense=dense, x=x: dense(x)),
                                     "lowered": as_graph(lambda low=low, x=x: low(x))})  # fmt: skip
                name = f"{kind}, {outputs}x{inputs}, batch {batch}"
                speed = times["dense"] / times["lowered"]
                results[name] = {"ms": times, "speed": speed, "format": choice["format"]}
    return results


def regimes(results: dict[str, Any]) -> tuple[bool, list[str]]:
    """Measure every regime into `results`, print them, and return whether each reaches its goal, and how it ended."""
    rows, texts, holds = [], [], True
    torch._dynamo.config.recompile_limit = 100  # one problem after the other is compiled of one function
    compiled = torch.compile(linear, mode="max-autotune-no-cudagraphs", dynamic=False)
    for regime in REGIMES:
        least_of = {"sparse": float("inf")}
        for shape in regime.shapes[: 1 if QUICK else None]:
            sizes = shape[0] // SMALLER, shape[1] // SMALLER
            for batch in regime.batches:
                name = f"{regime.kind}{' training' if regime.trains else ''}, {sizes[0]}x{sizes[1]}, batch {batch}"
                found = measure(regime, sizes, batch if GPU else min(batch, 64), compiled)
                results[name] = found
                for layer, speed in found["speed"].items():
                    least_of[layer] = min(speed, least_of.get(layer, float("inf")))
                times = [f"{found['ms'][key]:.4f}" if key in found["ms"] else "-"
                         for key in ("cublas", "compiled", "cusparselt", "sparse")]  # fmt: skip
                speeds = [f"{found['speed'][key]:.2f}" if key in found["speed"] else "-" for key in ("cusparselt",)]
                goals = f"{regime.must:g}/{regime.strong:g}/{regime.ceiling:g}"
                rows.append([name, *times, *speeds, f"{found['speed']['sparse']:.2f}", goals, found["way"]])
        holds &= least_of["sparse"] >= regime.must
        other = f"; cuSPARSELt {least_of['cusparselt']:.2f}" if "cusparselt" in least_of else ""
        texts.append(f"{regime.name} {least_of['sparse']:.2f} (must {regime.must:g}{other})")
    header = ["layer", "cuBLAS ms", "compiled", "cuSPARSELt", "sparse", "cuSPARSELt x", "sparse x", "goals", "kernel"]
    table(header, rows)
    return holds, texts


def main() -> None:
    """Measure, and judge."""
    if not (GPU or QUICK):
        print("kernels: there is no GPU here, so nothing is measured.")
        return
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # what was measured before decides nothing here
        holds, texts = regimes(results)
        results["lowered"] = low = lowered_layers()
        results["table"] = dict(_measured.known(_measured.device_name(DEVICE)))
    rows = [[name, f"{i['ms']['dense']:.4f}", f"{i['ms']['lowered']:.4f}", f"{i['speed']:.2f}", i["format"]]
            for name, i in low.items()]  # fmt: skip
    table(["layer that was lowered", "dense ms", "lowered", "speed", "format"], rows)
    slowest = min(item["speed"] for item in low.values())
    texts.append(f"lowered layers {slowest:.2f} (must {LEAST:g}, wanted {WANTED:g})")
    save(
        __file__,
        "on a GPU sparse layers beat the best dense layer by what their regime must, and no lowered layer is slower",
        holds and slowest >= LEAST,
        f"on {torch.cuda.get_device_name() if GPU else 'no GPU: these numbers mean nothing'}, least speed-up of each "
        f"regime: {', '.join(texts)}; {time.perf_counter() - START:.0f} s in all.",
        results,
    )


if __name__ == "__main__":
    main()
