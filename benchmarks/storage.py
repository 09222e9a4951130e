"""Claim: packed ONNX files are at most 1.15 of the entropy bound, and once loaded as fast as dense ones.

ResNet-18 and BERT-base with random weights, 50, 80, 90 and 95% of the weights of each layer pruned by magnitude
(embeddings, norms and biases stay). `frozen` is ResNet-18 drawn from a seed, with 90% of the weights frozen there.
Sizes are those of whole files, exact; `zstd` is the dense file compressed as a whole (level 12). Loading is measured
in onnxruntime, each time in a process of its own, dense and packed in turns: seconds until there is a session, the
most memory that the process takes for it (VmHWM less what it had before, with the file already in the cache of the
system), and the latency of one input on one thread. Medians.

Limit: a weight that is kept with probability p takes H(p) + 32 p bits, if values are not compressible; what is not
pruned takes its 32 bits. 1.15 of it is what a format may take that a runtime can read without code of ours.

Reading: `bound` is the size over the entropy bound. `load`, `peak` and `latency` are ratios of packed to dense. Loading
takes longer, as onnxruntime rebuilds the weights; the claim says nothing of it. Latency should be 1: the operators are
the same. Trust it on an idle machine only.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zstandard
from common import QUICK, medians, save, table
from transformers import BertConfig, BertModel, ResNetConfig, ResNetForImageClassification

import sparsify as sp
from sparsify.export.checkpoint import save_state
from sparsify.export.onnx import export_onnx, feed
from sparsify.freezing import frozen, redrawn
from sparsify.program import Program

LEVEL = 3 if QUICK else 12
SPARSITIES = (0.9,) if QUICK else (0.5, 0.8, 0.9, 0.95)
ROUNDS, RUNS = (1, 3) if QUICK else (5, 30)
BOUND, CLOSE = 1.15, 1.05

WRITERS: Mapping[str, Callable[[Program, Path], Any]] = {
    "dense.onnx": export_onnx,
    "packed.onnx": lambda program, path: export_onnx(program, path, storage="packed"),
    "packed.safetensors": lambda program, path: save_state(program, path, "packed"),
}


def main() -> None:
    """Write, measure and judge."""
    results: dict[str, dict[str, Any]] = {}
    for name, program in programs().items():
        for sparsity in SPARSITIES:
            pruned = sp.run(program, [f"weight-prune:sparsity={sparsity},scope=layer"]).program
            results[f"{name}, {sparsity:.0%}"] = measured(pruned, pruned.masks)
            if name == "resnet-18" and sparsity == 0.9:
                seed = redrawn(program, 0)
                results[f"{name}, {sparsity:.0%}, frozen"] = measured(frozen(seed, pruned.masks, 0), pruned.masks)
    _print(results)
    sizes = [found["of_bound"]["packed.onnx"] for found in results.values()]
    latencies = [found["packed_of_dense"]["latency"] for found in results.values()]
    loads = [found["packed_of_dense"]["load"] for found in results.values()]
    save(
        __file__,
        f"packed ONNX files are at most {BOUND} of the entropy bound, and once loaded as fast as dense ones",
        max(sizes) <= BOUND and max(latencies) <= CLOSE,
        f"Packed over bound {min(sizes):.3f} to {max(sizes):.3f}; latency {min(latencies):.2f} to {max(latencies):.2f} "
        f"of dense; loading {min(loads):.1f} to {max(loads):.1f} times as long.",
        results,
    )


def programs() -> dict[str, Program]:
    """Return the models."""
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic",
                          num_labels=1000)  # fmt: skip
    resnet = ResNetForImageClassification(config).eval()
    found = {"resnet-18": sp.capture(resnet, kwargs={"pixel_values": torch.randn(2, 3, 224, 224)})}
    if not QUICK:
        bert = BertConfig()
        tokens = torch.randint(0, bert.vocab_size, (2, 128))
        found["bert-base"] = sp.capture(BertModel(bert).eval(), kwargs={"input_ids": tokens})
    return found


def measured(program: Program, masks: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Write the files of one program; return sizes, and what loading them takes."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / name for name in WRITERS}
        for name, write in WRITERS.items():
            write(program, paths[name])
        sizes = {name: path.stat().st_size for name, path in paths.items()}
        with paths["dense.onnx"].open("rb") as source:
            sizes["zstd"] = _compressed(source)
        inputs = Path(folder) / "inputs.npz"
        np.savez(inputs, **{k: v[:1] for k, v in feed(program, program.example.leaves()).items()})
        times: dict[str, list[dict[str, float]]] = {"dense": [], "packed": []}
        for _ in range(ROUNDS):
            for kind, found in times.items():
                found.append(_in_a_process(paths[f"{kind}.onnx"], inputs))
    bound = _bound(program, masks)
    dense, packed = (medians(times[kind]) for kind in ("dense", "packed"))
    return {
        "bytes": sizes,
        "bound": bound,
        "of_bound": {name: size / bound for name, size in sizes.items()},
        "of_dense": {name: size / sizes["dense.onnx"] for name, size in sizes.items()},
        "dense": dense,
        "packed": packed,
        "packed_of_dense": {key: packed[key] / dense[key] for key in dense},
    }


def _bound(program: Program, masks: Mapping[str, torch.Tensor]) -> float:
    """Return the entropy bound in bytes: of pruned weights that of each layer's density, of others what they take."""
    total = sum(value.nbytes for value in program.parameters.values())
    for name, mask in masks.items():
        p = float(mask.float().mean())
        entropy = -sum(q * math.log2(q) for q in (p, 1 - p) if q > 0)
        total += mask.numel() * (entropy + 32 * p) / 8 - program.parameters[name].nbytes
    return total


def _compressed(source: Any) -> int:
    read = zstandard.ZstdCompressor(level=LEVEL, threads=-1).stream_reader(source)
    return sum(len(piece) for piece in iter(lambda: read.read(1 << 20), b""))


def _in_a_process(path: Path, inputs: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", str(path), str(inputs), *(["--quick"] if QUICK else [])]
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def one(path: str, inputs: str) -> dict[str, float]:
    """Load a file in this process; return seconds of loading, bytes of memory and seconds of a run."""
    import onnxruntime

    given = dict(np.load(inputs))
    Path(path).read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    Path("/proc/self/clear_refs").write_text("5")
    before, start = _status("VmRSS"), time.perf_counter()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    load, peak = time.perf_counter() - start, _status("VmHWM") - before
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        session.run(None, given)
        times.append(time.perf_counter() - start)
    return {"load": load, "peak": peak, "latency": statistics.median(times)}


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def _print(results: Mapping[str, Mapping[str, Any]]) -> None:
    names = [*WRITERS, "zstd"]
    table(
        ["of dense", "dense MB", *names[1:], "bound"],
        [
            [key, f"{r['bytes']['dense.onnx'] / 1e6:.1f}", *(r["of_dense"][n] for n in names[1:]),
             r["bound"] / r["bytes"]["dense.onnx"]]
            for key, r in results.items()
        ],
    )  # fmt: skip
    table(["of the bound", *names], [[key, *(r["of_bound"][n] for n in names)] for key, r in results.items()])
    table(
        ["packed of dense", "dense load s", "load", "dense peak MB", "peak", "dense ms", "latency"],
        [
            [key, *(value for name, unit in (("load", 1), ("peak", 1e-6), ("latency", 1e3))
                    for value in (r["dense"][name] * unit, r["packed_of_dense"][name]))]
            for key, r in results.items()
        ],
    )  # fmt: skip


if __name__ == "__main__":
    if "--one" in sys.argv:
        place = sys.argv.index("--one")
        print(json.dumps(one(*sys.argv[place + 1 : place + 3])))
    else:
        main()
