"""Claim: at 80% sparsity, refitting what is left (`reconstruct`) raises the accuracy of nearly every criterion.

A multilayer perceptron and a small convolutional network are trained on the digits, pruned once by every criterion at
50 to 98% sparsity, single weights (ranked as each criterion does by default) and whole channels (the same share of
every group), and measured on the 450 validation images: as they are, and after `reconstruct` with method least-
squares, which looks at the training images but at no labels. Nothing is retrained. Three seeds of the training and of
the criteria.

Reading: `results/quality.csv` has every run, `results/quality.png` the means. A criterion made for pruning before
training (SynFlow, GraSP, ProsPr, PHEW) or for choosing what to train (Fisher) is used after training here, which is not
what it is for. Differences of less than two points lie within the noise of 450 images and three seeds.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from common import QUICK, RESULTS, save, table
from torch import Tensor, nn

import sparsify as sp
from sparsify.atomic import writing
from sparsify.errors import PassError
from sparsify.program import Program
from sparsify.registry import entries
from sparsify.task import resolve
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions

LEVELS = (0.8,) if QUICK else (0.5, 0.8, 0.9, 0.95, 0.98)
SEEDS = (0,) if QUICK else (0, 1, 2)
BATCHES = 21  # the whole training split
TRAINING = TrainOptions("12ep", learning_rate=2e-3, optimizer="adamw", weight_decay=0.01, warmup="1ep")
ELSEWHERE = {"rnn-jacobian"}  # there is no recurrent layer in these networks


class ConvNet(nn.Sequential):
    """Three convolutions with batch norms, the mean over the image, a linear layer."""

    def __init__(self) -> None:
        def stage(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
            return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

        super().__init__(
            *stage(1, 32, 1), *stage(32, 64, 2), *stage(64, 64, 1),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
        )  # fmt: skip


class Perceptron(nn.Sequential):
    """64-300-100-10, as LeNet-300-100."""

    def __init__(self) -> None:
        super().__init__(
            nn.Flatten(), nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
        )


NETWORKS = {"perceptron": Perceptron, "convnet": ConvNet}


def trained(make: type[nn.Module], seed: int) -> Program:
    """Return a network trained on the digits."""
    task = resolve("digits")
    torch.manual_seed(seed)
    example: Tensor = task.data("train")[0][:8]  # type: ignore[attr-defined]
    return train(sp.capture(make(), (example,)), task, TRAINING, seed=seed).program


def pruning(unit: str, criterion: str, level: float) -> str:
    """Return the pass that prunes weights or channels."""
    if unit == "weights":
        return f"weight-prune:sparsity={level},criterion={criterion},allow_collapse=yes,batches={BATCHES}"
    return f"channel-prune:sparsity={level},criterion={criterion},max_sparsity=0.99,batches={BATCHES}"


def runs() -> Iterator[dict[str, Any]]:
    """Yield every measurement."""
    for network, make in NETWORKS.items():
        for seed in SEEDS:
            program = trained(make, seed)
            dense = sp.run(program, [], task="digits").report["score"]
            for entry in entries("sparsify.criteria").values():
                for unit in ("weights", "channels"):
                    if unit not in entry.scores or entry.name in ELSEWHERE:
                        continue
                    for level in LEVELS:
                        first = {"network": network, "unit": unit, "criterion": entry.name, "sparsity": level}
                        yield {
                            **first,
                            "seed": seed,
                            "dense": dense,
                            **measured(program, unit, entry.name, level, seed),
                        }


def measured(program: Program, unit: str, criterion: str, level: float, seed: int) -> dict[str, Any]:
    """Return the accuracy after pruning, without and with reconstruction, and what was reached."""
    try:
        pruned = sp.run(program, [pruning(unit, criterion, level)], task="digits", seed=seed)
    except PassError as error:
        print(f"{criterion} {unit} {level}: {error}", file=sys.stderr)
        return {"pruned": None, "reconstructed": None, "reached": None}
    try:
        refitted = sp.run(pruned.program, [f"reconstruct:batches={BATCHES}"], task="digits", seed=seed).report["score"]
    except PassError:  # nothing is left to refit
        refitted = pruned.report["score"]
    reached = pruned.report["passes"][0]["reached"]
    return {"pruned": pruned.report["score"], "reconstructed": refitted, "reached": round(reached, 6)}


def means(rows: list[dict[str, Any]]) -> dict[tuple[str, str, str, float], tuple[float, float]]:
    """Return the means over the seeds."""
    found: dict[tuple[str, str, str, float], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        if row["pruned"] is not None:
            key = (row["network"], row["unit"], row["criterion"], row["sparsity"])
            found[key].append((row["pruned"], row["reconstructed"]))
    return {
        key: (statistics.mean(a for a, _ in values), statistics.mean(b for _, b in values))
        for key, values in found.items()
    }


def draw(found: dict[tuple[str, str, str, float], tuple[float, float]]) -> None:
    """Draw a heat map for each network and unit: accuracy by criterion and sparsity, without and with refitting."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = [(network, unit) for network in NETWORKS for unit in ("weights", "channels")]
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 11), layout="constrained")
    for axis, (network, unit) in zip(axes, panels, strict=True):
        names = sorted({key[2] for key in found if key[:2] == (network, unit)})
        names.sort(key=lambda name: -sum(found[network, unit, name, level][0] for level in LEVELS
                                         if (network, unit, name, level) in found))  # fmt: skip
        nothing = (float("nan"), float("nan"))
        grid = [
            [100 * found.get((network, unit, name, level), nothing)[way] for way in (0, 1) for level in LEVELS]
            for name in names
        ]
        axis.imshow(grid, cmap="viridis", vmin=10, vmax=100, aspect="auto")
        for y, line in enumerate(grid):
            for x, value in enumerate(line):
                colour = "white" if value < 60 else "black"
                axis.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
        axis.axvline(len(LEVELS) - 0.5, color="white", linewidth=3)
        axis.set_xticks(range(2 * len(LEVELS)), [f"{100 * level:g}" for level in LEVELS] * 2, fontsize=7)
        axis.set_yticks(range(len(names)), names, fontsize=7)
        axis.set_title(f"{network}, {unit}\npruned | refitted, sparsity in %", fontsize=9)
    figure.suptitle("Accuracy on the digits in % after pruning, nothing retrained (mean of three seeds)")
    with writing(RESULTS / "quality.png") as path:
        figure.savefig(path, format="png", dpi=110)


def main() -> None:
    """Measure, write the table and the plot, and judge."""
    rows = list(runs())
    found = means(rows)
    if not QUICK:
        RESULTS.mkdir(exist_ok=True)
        with writing(RESULTS / "quality.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        draw(found)
    at = {key[:3]: value for key, value in found.items() if key[3] == 0.8}
    better = sum(after >= before - 0.005 for before, after in at.values())
    table(
        ["network", "unit", "criterion", "pruned", "refitted"],
        [[*key, f"{100 * a:.1f}", f"{100 * b:.1f}"] for key, (a, b) in sorted(at.items())],
    )
    gain = statistics.mean(after - before for before, after in at.values())
    save(
        __file__,
        "at 80% sparsity, reconstruct raises the accuracy of nearly every criterion",
        better >= 0.95 * len(at),
        f"no worse in {better} of {len(at)} settings (two networks, weights and channels, every criterion); "
        f"{100 * gain:.1f} points better on average.",
        {" ".join(map(str, key)): {"pruned": a, "reconstructed": b} for key, (a, b) in found.items()},
    )


if __name__ == "__main__":
    main()
