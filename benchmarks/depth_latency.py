"""Claim: onnxruntime's latency falls in proportion to the MACs that layer-prune removes.

Models with random weights: ResNet-32 for 32x32 images (1 to 12 of its 13 removable blocks; each is 6.83% of the MACs)
and a BERT-like encoder (hidden size 256, 12 layers, 1 to 11 removed). All files of a model are measured in turns in
one run, so that what slows the machine down slows all of them.

Limit: proportion itself, latency ratio = MACs ratio. What is in the way does not shrink with depth: the call into
onnxruntime, the stem or the embedding, the head; and layers whose MACs are the same need not take the same time.

Reading: `slope` and `intercept` of the fitted line latency ratio = intercept + slope * MACs ratio, and its r2;
proportional is slope 1, intercept 0. `fixed_ms` is the intercept in milliseconds. `worst_gap` is the largest distance
between a latency ratio and its MACs ratio. `spread` is the interquartile range over the median: where it is large,
the machine was busy, and the fit to first quartiles (`low_slope`, `low_intercept`) says more. Two threads wait for
each other after every operator, so a busy machine disturbs them more than one.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import save, table
from torch import Tensor, nn

import sparsify as sp
from sparsify.demo_net import ResNet
from sparsify.latency import Latency, measure

SECONDS = 15.0  # of measuring, for each line of the table
THREADS = (1, 2)
CLOSE = 0.1  # the claim holds when slope and intercept are this close to 1 and 0

Make = Callable[[], tuple[nn.Module, Tensor]]


def resnet32() -> tuple[nn.Module, Tensor]:
    return ResNet(blocks=(5, 5, 5), channels=3), torch.randn(1, 3, 32, 32)


def encoder(length: int) -> Make:
    def make() -> tuple[nn.Module, Tensor]:
        from transformers import BertConfig, BertForSequenceClassification

        config = BertConfig(hidden_size=256, intermediate_size=1024, num_attention_heads=4, num_hidden_layers=12)
        return BertForSequenceClassification(config), torch.randint(0, 30000, (1, length))

    return make


MODELS: dict[str, tuple[Make, int, tuple[int, ...]]] = {  # how to make it, how many blocks to remove, batch sizes
    "ResNet-32": (resnet32, 12, (1, 16)),
    "encoder, 64 tokens": (encoder(64), 11, (1,)),
    "encoder, 128 tokens": (encoder(128), 11, (1, 4)),
}


def main() -> None:
    results = {}
    for name, (make, most, batches) in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            files, macs = _export(make, most, Path(folder))
            if name == "ResNet-32":
                _check_facts(macs)
            _, example = make()
            for batch in batches:
                inputs = np.repeat(example.numpy(), batch, axis=0)
                for threads in THREADS:
                    key = f"{name}, batch {batch}, {threads} thread{'s' * (threads > 1)}"
                    results[key] = _compare(files, macs, inputs, threads)
    columns = ("slope", "intercept", "r2", "low_slope", "low_intercept", "worst_gap", "spread", "full_ms")
    table(["model", *columns], [[name, *(r[column] for column in columns)] for name, r in results.items()])
    off = [name for name, r in results.items() if max(abs(r["slope"] - 1), abs(r["intercept"])) > CLOSE]
    worst = max(results, key=lambda name: results[name]["worst_gap"])
    save(
        __file__,
        f"onnxruntime's latency falls in proportion to the MACs removed (slope within {CLOSE} of 1, intercept of 0)",
        not off,
        f"{len(results) - len(off)} of {len(results)} settings are proportional"
        + (f"; not so: {'; '.join(_explain(name, results[name]) for name in off)}" if off else "")
        + f". Largest gap between a latency ratio and its MACs ratio: {results[worst]['worst_gap']:.3f} ({worst}).",
        results,
    )


def _export(make: Make, most: int, folder: Path) -> tuple[list[Path], list[int]]:
    """Write the model with 0, 1, ... `most` blocks removed; return the files and the MACs of each."""
    torch.manual_seed(0)
    model, example = make()
    program = sp.capture(model.eval(), (example,))
    files, macs = [], []
    for count in range(most + 1):
        pruned = sp.run(program, [f"layer-prune:count={count}"]).program
        files.append(folder / f"{count}.onnx")
        macs.append(sp.cost(pruned).macs)
        sp.export_onnx(pruned, files[-1])
        print(f"removed {count}: {macs[-1] / 1e6:.3f} MMAC", flush=True)
    return files, macs


def _check_facts(macs: list[int]) -> None:
    """ResNet-32 with 1x1 projections is 69.125 MMAC, and every block of identity shortcut two 3x3 convolutions."""
    steps = {more - fewer for more, fewer in pairwise(macs)}
    assert (macs[0], steps) == (69_124_736, {4_718_592}), (macs[0], steps)
    assert round(4_718_592 / macs[0], 4) == 0.0683


def _compare(files: list[Path], macs: list[int], inputs: Any, threads: int) -> dict[str, Any]:
    import onnxruntime

    name = onnxruntime.InferenceSession(str(files[0]), providers=["CPUExecutionProvider"]).get_inputs()[0].name
    latencies = measure(files, [{name: inputs}] * len(files), seconds=SECONDS, threads=threads)
    x = np.array(macs) / macs[0]
    y = np.array([latency.median for latency in latencies]) / latencies[0].median
    slope, intercept = np.polyfit(x, y, 1)
    low_slope, low_intercept = np.polyfit(x, [latency.low / latencies[0].low for latency in latencies], 1)
    return {
        "slope": float(slope),
        "intercept": float(intercept),
        "r2": float(np.corrcoef(x, y)[0, 1] ** 2),
        "low_slope": float(low_slope),
        "low_intercept": float(low_intercept),
        "worst_gap": float(np.abs(x - y).max()),
        "spread": statistics.median(_spread(latency) for latency in latencies),
        "fixed_ms": float(intercept) * latencies[0].median,
        "full_ms": latencies[0].median,
        "macs_ratio": x.tolist(),
        "latency_ratio": y.tolist(),
        "latency": [latency.as_dict() for latency in latencies],
    }


def _spread(latency: Latency) -> float:
    return (latency.high - latency.low) / latency.median


def _explain(name: str, result: dict[str, Any]) -> str:
    return (
        f"{name} (latency = {result['intercept']:.2f} + {result['slope']:.2f} * MACs, "
        f"{result['fixed_ms']:.2f} of {result['full_ms']:.2f} ms do not shrink)"
    )


if __name__ == "__main__":
    main()
