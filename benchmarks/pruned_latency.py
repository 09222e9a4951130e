"""Claim: at half the MACs, what sparsify prunes is as fast in onnxruntime as what Torch-Pruning prunes.

Models with random weights: ResNet-50, a BERT of 6 layers (128 tokens) and DenseNet-121. All files of a model are
measured in turns in one run, so that what slows the machine down slows all of them: dense, ours (`macs=0.5`, the same
with `round_to=8`, and with `units=all` as well, which prunes what residual blocks add up, too), and Torch-Pruning's
with its fraction of channels chosen so that the MACs are the same within 2%, with and without its `round_to=8`; BERT
loses a third of its heads there, as much as of its other widths. MACs are counted alike for all, from shapes. A file
that cannot be brought to the same MACs is left out: with `round_to=8` theirs takes too wide steps in DenseNet-121.

Limit: proportion, latency ratio = MACs ratio. In the way are operators that move data and multiply nothing, and
kernels that are fast for some widths only: blocks of 8 or 16 channels.

Reading: `ratio` is the latency over that of the dense model in the same run; 0.5 is proportional. The claim holds if
our file with `round_to=8` and nothing else takes at most 5% more than the faster one of theirs, in every setting.
`low_ratio` compares first quartiles: trust it more where the machine was busy.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import QUICK, save, table
from rival import MODELS, VERSION, Model, pruned
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import sparsify as sp
from sparsify.latency import measure

TARGET, TOLERANCE, CLOSE = 0.5, 0.02, 1.05
SECONDS = 1.0 if QUICK else 12.0  # of measuring, for each line of the table
BATCHES, THREADS = (1, 8), (1, 2)
HEADS = 1 / 3
OURS = {
    "ours": f"channel-prune:macs={TARGET}",
    "ours, round_to=8": f"channel-prune:macs={TARGET},round_to=8",
    "ours, round_to=8, units=all": f"channel-prune:macs={TARGET},round_to=8,units=all",
}
THEIRS: dict[str, dict[str, int]] = {"theirs": {}, "theirs, round_to=8": {"round_to": 8}}
FILES = ("dense", *OURS, *THEIRS)


def main() -> None:
    results: dict[str, dict[str, Any]] = {}
    for name, case in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            paths = {file: Path(folder) / f"{index}.onnx" for index, file in enumerate(FILES)}
            macs, example = _export(case, paths)
            print(f"{name}: " + "; ".join(f"{file} {count / 1e6:.1f} MMAC" for file, count in macs.items()), flush=True)
            paths = {file: path for file, path in paths.items() if _close(macs, file)}
            for batch in BATCHES:
                for threads in THREADS:
                    key = f"{name}, batch {batch}, {threads} thread{'s' * (threads > 1)}"
                    results[key] = _compare(paths, macs, example, batch, threads)
    for kind in ("ratio", "macs_ratio"):
        table([kind, *FILES], [[key, *(r[kind].get(file, "") for file in FILES)] for key, r in results.items()])
    gaps = {
        key: r["ratio"]["ours, round_to=8"] / min(r["ratio"][file] for file in THEIRS if file in r["ratio"])
        for key, r in results.items()
    }
    worst, best = max(gaps, key=gaps.__getitem__), min(gaps, key=gaps.__getitem__)
    save(
        __file__,
        f"at {TARGET:g} of the MACs our files take at most {CLOSE - 1:.0%} more time in onnxruntime than those of "
        f"Torch-Pruning {VERSION}",
        max(gaps.values()) <= CLOSE,
        f"Ours with round_to=8 over the faster of theirs: {gaps[best]:.2f} ({best}) to {gaps[worst]:.2f} ({worst}). "
        + " ".join(f"{file}: {_span(results, file)} of the dense latency." for file in FILES[1:]),
        results,
    )


def _export(case: Model, paths: Mapping[str, Path]) -> tuple[dict[str, int], dict[str, Tensor]]:
    """Write all files of a model; return the MACs of each, and the example."""
    model, example = case.make()
    dense = sp.capture(model, (), dict(example))
    programs: dict[str, Callable[[], sp.Program]] = {
        "dense": lambda: dense,
        **{file: partial(_ours, dense, spec) for file, spec in OURS.items()},
        **{file: partial(_theirs, case, model, example, settings) for file, settings in THEIRS.items()},
    }
    macs = {}
    for file, make in programs.items():
        program = make()
        macs[file] = sp.cost(program).macs
        sp.export_onnx(program, paths[file])
    return macs, example


def _close(macs: Mapping[str, int], file: str) -> bool:
    """Whether a file has the MACs that it should have; with few wide steps a fraction of channels may not give them."""
    return file == "dense" or abs(macs[file] / macs["dense"] - TARGET) <= TOLERANCE * TARGET


def _ours(dense: sp.Program, spec: str) -> sp.Program:
    return sp.run(dense, [spec, "shrink"]).program


def _theirs(case: Model, model: nn.Module, example: Mapping[str, Tensor], settings: Mapping[str, int]) -> sp.Program:
    """Choose the fraction of channels with which half of the operations are left, by bisection."""
    dense, low, high = _operations(model, example), 0.0, 1.0
    best, best_gap = model, float("inf")
    for _ in range(12):
        ratio = (low + high) / 2
        found = pruned(case, model, dict(example), ratio, HEADS, **settings)
        left = _operations(found, example) / dense
        if abs(left - TARGET) < best_gap:
            best, best_gap = found, abs(left - TARGET)
        if best_gap < 0.001:
            break
        low, high = (ratio, high) if left > TARGET else (low, ratio)
    return sp.capture(best, (), dict(example))


def _operations(model: nn.Module, example: Mapping[str, Tensor]) -> int:
    """Count the multiplications of a run; capturing every candidate would take minutes."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**copy.copy(example))
    return counter.get_total_flops()


def _compare(
    paths: Mapping[str, Path], macs: Mapping[str, int], example: Mapping[str, Tensor], batch: int, threads: int
) -> dict[str, Any]:
    feed = {name: np.repeat(value.numpy(), batch, axis=0) for name, value in example.items()}
    found = measure(list(paths.values()), [feed] * len(paths), seconds=SECONDS, threads=threads)
    latencies = dict(zip(paths, found, strict=True))
    return {
        "ratio": {file: latency.median / latencies["dense"].median for file, latency in latencies.items()},
        "low_ratio": {file: latency.low / latencies["dense"].low for file, latency in latencies.items()},
        "macs_ratio": {file: count / macs["dense"] for file, count in macs.items()},
        "latency": {file: latency.as_dict() for file, latency in latencies.items()},
    }


def _span(results: Mapping[str, Any], file: str) -> str:
    ratios = [result["ratio"][file] for result in results.values() if file in result["ratio"]]
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


if __name__ == "__main__":
    main()
