"""Claim: the page of a run of a graph of 1,000 operators is written in under 2 s, that of ResNet-50 is under 1 MB.

The page holds the graph, a table of every layer, a map of every mask and the report itself. Models with random weights:
ResNet-50 and a GPT-2 of 24 layers, which has more than 1,000 operators, with 80% of the weights masked. What is timed
is the page alone, from the report and both programs to the file; measuring layers (times, sensitivities) is part of the
run and is not.

Limit: whatever is on the page has to be written: analysing the groups and laying out the graph are linear in its size,
the maps read every mask once.

Reading: `seconds` is the median of several, `kilobytes` the size of the file.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import QUICK, save, table
from transformers import GPT2Config, GPT2LMHeadModel, ResNetConfig, ResNetForImageClassification

import sparsify as sp
from sparsify.layer_table import layer_table
from sparsify.program import Program
from sparsify.report.run_page import write_run_page

SECONDS, KILOBYTES = 2.0, 1000.0
RUNS = 1 if QUICK else 5
PASSES = ["weight-prune:sparsity=0.8,scope=layer"]


def main() -> None:
    """Write and judge."""
    results = {name: measured(make()) for name, make in MODELS.items()}
    table(
        ["", "operators", "layers", "seconds", "kilobytes"],
        [[name, *found.values()] for name, found in results.items()],
    )
    gpt, resnet = results["GPT-2, 24 layers"], results["ResNet-50"]
    save(
        __file__,
        f"the page of a run of 1,000 operators is written in under {SECONDS:g} s, that of ResNet-50 is under 1 MB",
        gpt["seconds"] < SECONDS and gpt["operators"] >= 1000 and resnet["kilobytes"] < KILOBYTES,
        f"{gpt['operators']} operators in {gpt['seconds']:.2f} s; ResNet-50 takes {resnet['kilobytes']:.0f} kB.",
        results,
    )


def resnet() -> Program:
    """Return ResNet-50."""
    model = ResNetForImageClassification(ResNetConfig(num_labels=1000)).eval()
    return sp.capture(model, kwargs={"pixel_values": torch.randn(2, 3, 224, 224)})


def gpt() -> Program:
    """Return a GPT-2 with many, narrow layers."""
    model = GPT2LMHeadModel(GPT2Config(n_layer=24, n_embd=256, n_head=4, use_cache=False)).eval()
    return sp.capture(model, kwargs={"input_ids": torch.randint(0, 50257, (2, 64))})


MODELS: dict[str, Callable[[], Program]] = {"ResNet-50": resnet, "GPT-2, 24 layers": gpt}


def measured(before: Program) -> dict[str, Any]:
    """Prune a model and write the page several times."""
    result = sp.run(before, PASSES)
    report = {**result.report, "model": "model.pt2", "command": "sparsify model.pt2", "gates": [], "latency": None,
              "artefacts": [], "layers": layer_table(before, result.program).as_dict()}  # fmt: skip
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.html"
        for _ in range(RUNS):
            start = time.perf_counter()
            write_run_page(path, report, before, result.program)
            seconds.append(time.perf_counter() - start)
        size = path.stat().st_size
    operators = sum(node.op == "call_function" for node in before.graph.nodes)
    return {"operators": operators, "layers": len(report["layers"]["rows"]), "seconds": statistics.median(seconds),
            "kilobytes": size / 1e3}  # fmt: skip


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
