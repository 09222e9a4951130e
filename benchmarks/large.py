"""Claim: a model of a billion parameters is scored and masked without a second copy of its weights.

A Llama-like configuration of 1.1 billion parameters (hidden 2048, 16 layers, grouped queries) with random weights in
bfloat16, 2.1 GiB, batch 1, 128 tokens: magnitude over all layers at 50%, 2:4 by magnitude, 2:4 by Wanda (which runs the
model), each with all checks of the pass manager.

Limit: magnitude reads every weight from memory, 2.1 GB for each pass over them, and writes a mask of a byte each, 1.04
GB. `peak` is the most that the process ever held, weights and masks included; a second copy of the weights would be
another 2.1 GiB.
"""

from __future__ import annotations

import gc
import resource
import time
from typing import Any

import torch
from common import QUICK, save, table

import sparsify as sp
from sparsify.program import Program

PASSES = (
    "weight-prune:sparsity=0.5",
    "weight-prune:pattern=2:4",
    "weight-prune:pattern=2:4,criterion=wanda",
)


def llama() -> Program:
    """Return the captured model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=256 if QUICK else 2048,
        intermediate_size=1024 if QUICK else 8192,
        num_hidden_layers=2 if QUICK else 16,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=32000,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        dtype=torch.bfloat16,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    model = LlamaForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    tokens = torch.randint(0, 32000, (1, 128))
    return sp.capture(model, kwargs={"input_ids": tokens, "use_cache": False})


def peak() -> float:
    """Return the most that the process has held so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Measure, and judge."""
    start = time.perf_counter()
    program = llama()
    weights = sum(value.nbytes for value in program.parameters.values()) / 2**30
    rows: list[list[Any]] = [["make and capture", time.perf_counter() - start, 0.0, peak()]]
    for spec in PASSES:
        start = time.perf_counter()
        step = sp.run(program, [spec]).report["passes"][0]
        rows.append([spec, step["seconds"], time.perf_counter() - start, peak()])
        masks = step["weights"] / 2**30
        gc.collect()
    table(["what", "seconds", "with checks and report", "peak GiB"], rows)
    beyond = rows[-1][3] - weights - masks
    save(
        __file__,
        "a billion parameters are scored and masked without a second copy of the weights",
        rows[-1][3] < 2 * weights + 2 * masks,
        f"at most {rows[-1][3]:.2f} GiB with weights of {weights:.2f} and masks of {masks:.2f} GiB: {beyond:.2f} GiB "
        f"for torch, the graph, statistics and activations. Magnitude {rows[1][1]:.1f} s, 2:4 {rows[2][1]:.1f} s, "
        f"Wanda with 2:4 {rows[3][1]:.1f} s.",
        {row[0]: dict(zip(("seconds", "whole", "peak"), row[1:], strict=True)) for row in rows},
    )


if __name__ == "__main__":
    main()
