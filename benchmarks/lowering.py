"""Claim: a model that `lower` lowered is never slower than dense, and faster where its layers can be.

Three models on a CPU, in float32: four layers of BERT-base, ResNet-18 on 64x64 images, and a perceptron of 4096-wide
layers; weights pruned at random to 80, 90 and 95% in each layer, batches of 1 and 16 (BERT: sequences of 16). Dense is
the same program with zeros in its weights. In turns, medians.

Reading: a speed-up is dense time over lowered time of the whole model; 0.98 is what turns cannot tell from 1.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from common import QUICK, save, table
from torch import nn
from transformers import BertConfig, BertModel, ResNetConfig, ResNetForImageClassification

import sparsify as sp
from sparsify.lowering.choosing import whole
from sparsify.masking import baked

LEAST = 0.98


def programs() -> dict[str, sp.Program]:
    """Return the models."""
    torch.manual_seed(0)
    config = BertConfig(num_hidden_layers=1 if QUICK else 4, attn_implementation="sdpa")
    tokens = torch.randint(0, config.vocab_size, (2, 16))
    resnet = ResNetForImageClassification(
        ResNetConfig(hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", num_labels=100)
    )
    perceptron = nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 10))
    return {
        "bert": sp.capture(BertModel(config).eval(), kwargs={"input_ids": tokens}),
        "resnet-18": sp.capture(resnet.eval(), kwargs={"pixel_values": torch.randn(2, 3, 64, 64)}),
        "perceptron": sp.capture(perceptron, (torch.randn(2, 1024),)),
    }


def main() -> None:
    """Lower, measure, and judge."""
    results: dict[str, Any] = {}
    rows = []
    for name, program in programs().items():
        for sparsity in (0.9,) if QUICK else (0.8, 0.9, 0.95):
            pruned = sp.run(program, [f"weight-prune:sparsity={sparsity},scope=layer,criterion=random"]).program
            for batch in (1, 16):
                start = time.perf_counter()
                result = sp.run(pruned, [f"lower:batch={batch}"])
                seconds = time.perf_counter() - start
                times = whole(baked(pruned), result.program, batch)
                key = f"{name}, {sparsity:.0%}, batch {batch}"
                speed = times["dense"] / times["lowered"]
                done = result.report["passes"][0]["done"].partition(";")[0]
                results[key] = {"ms": times, "speed": speed, "layers": done, "seconds": seconds}
                rows.append([key, f"{times['dense']:.2f}", f"{times['lowered']:.2f}", f"{speed:.2f}", done])
    table(["model", "dense ms", "lowered ms", "speed", "layers"], rows)
    speeds = [item["speed"] for item in results.values()]
    save(
        __file__,
        "a model that lower lowered is never slower than dense",
        min(speeds) >= LEAST,
        f"speed-ups of whole models from {min(speeds):.2f} to {max(speeds):.2f} (at least {LEAST}).",
        results,
    )


if __name__ == "__main__":
    main()
