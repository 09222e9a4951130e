"""Checkpoints: how large packed and compressed `.safetensors` files are against the entropy.

Sizes are of the widest layer of a perceptron that is trained on the digits and pruned by magnitude. The entropy of a
pruned weight is H(p) + 32 p bits: which weights are kept, with probability p, and a float for each.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch
from common import QUICK, save
from torch import nn
from torch.nn import functional as F

import sparsify as sp
from sparsify.coding.tensor_file import TensorFile
from sparsify.export.checkpoint import save_state
from sparsify.masking import masked
from sparsify.program import Program
from sparsify.task import resolve

SPARSITIES = (0.5, 0.8, 0.9, 0.95)


def trained() -> nn.Sequential:
    torch.manual_seed(0)
    task = resolve("digits")
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(2 if QUICK else 20):
        for images, labels in task.batches("train"):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
    return model.eval()


def bits(program: Program, path: Path, weight: str, *, compress: bool) -> float:
    """Return the bits for each value of a weight that the file of a program takes, without its header."""
    save_state(program, path, "packed", compress=compress)
    file = TensorFile(path)
    stored = [
        len(file._file.get_tensor(n)) if n in file.compressed else file[n].nbytes for n in file if n.startswith(weight)
    ]
    return 8 * sum(stored) / program.parameters[weight].numel()


def sizes(folder: Path) -> dict[str, dict[str, float]]:
    program = sp.capture(trained(), (torch.randn(2, 1, 8, 8),))
    weight, found = "3.weight", {}
    for sparsity in SPARSITIES:
        pruned = sp.run(program, [f"weight-prune:sparsity={sparsity},scope=layer"]).program
        pruned = masked(program, {weight: pruned.masks[weight]})
        p = float(pruned.masks[weight].double().mean())
        entropy = -p * math.log2(p) - (1 - p) * math.log2(1 - p) + 32 * p
        packed, zstd = (bits(pruned, folder / "a.safetensors", weight, compress=c) for c in (False, True))
        found[f"{sparsity:.2f}"] = {
            "sparsity": 1 - p,
            "entropy": entropy,
            "packed": packed / entropy,
            "zstd": zstd / entropy,
        }
        print(f"{1 - p:.3f}: {entropy:.3f} bits, packed {packed / entropy:.3f}, zstd {zstd / entropy:.3f} of it")
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = {"sizes": sizes(Path(folder))}
    rows = found["sizes"].values()
    holds = all(row["packed"] < 1.15 and row["zstd"] < 1 for row in rows)
    reading = (
        f"Packed {min(row['packed'] for row in rows):.3f} to {max(row['packed'] for row in rows):.3f} of the entropy, "
        f"with zstd {min(row['zstd'] for row in rows):.3f} to {max(row['zstd'] for row in rows):.3f}."
    )
    save(
        __file__,
        "Packed weights take at most 1.15 times the entropy, and less than it with zstd.",
        holds,
        reading,
        found,
    )


if __name__ == "__main__":
    main()
