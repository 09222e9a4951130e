"""Claim: the demo's network gets faster with every block that is removed, and stays within 5 points of accuracy.

Limit: the dense network of the same run. This is `sparsify demo` as it is, 450 images, one seed; the picture in the
README is drawn from it.

Reading: `results/demo.json` has a row for each network: multiply-accumulates, parameters, bytes of the ONNX file,
latency of one image in onnxruntime on one thread (milliseconds, the median of the fastest fifth of its runs, for what
else the machine does only adds time), accuracy after pruning and after two epochs of fine-tuning with its 95% interval.
`docs/images/demo.png` shows accuracy over latency.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
from common import QUICK, save
from rich.console import Console

import sparsify as sp
from sparsify.atomic import writing
from sparsify.console import progress
from sparsify.demo import Demo, Row, run_demo
from sparsify.export.onnx import feed
from sparsify.inputs import with_batch
from sparsify.latency import SESSIONS, Latency, in_turns, onnx_run

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "demo.png"
POINTS = 0.05
TEAL, GREY, INK = "#00897b", "#9e9e9e", "#37474f"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, progress() as show:
        demo = run_demo(Path(folder), 0, show)
        show("measuring latency on one thread")
        rows = on_one_thread(demo.rows, Path(folder))
    Demo(rows, (), Path(folder)).print(Console(width=100))
    if not QUICK:
        PICTURE.parent.mkdir(exist_ok=True)
        draw(rows, PICTURE)
    dense, smallest = rows[0], rows[-1]
    medians = [row.latency.median for row in rows]
    drop = max(dense.score["value"] - row.score["value"] for row in rows)
    save(
        __file__,
        f"every block that is removed makes the demo's network faster, and none costs over {100 * POINTS:g} points",
        medians == sorted(medians, reverse=True) and drop <= POINTS,
        f"Without {smallest.removed} of 9 blocks it is {dense.latency.median / smallest.latency.median:.2f} times as "
        f"fast; the largest fall of the accuracy is {100 * drop:.1f} points.",
        {"rows": [row_of(row) for row in rows]},
    )


def on_one_thread(rows: Sequence[Row], folder: Path) -> list[Row]:
    """Measure again, and keep the fastest fifth of the runs: what else the machine does only adds time."""
    program = sp.load(folder / "model.pt")
    inputs = feed(program, with_batch(program, 1))
    files = [folder / (f"small-{row.removed}.onnx" if row.removed else "dense.onnx") for row in rows]
    starts = [partial(onnx_run, file, inputs, 1) for file in files]
    found = in_turns(starts, seconds=3.0 if QUICK else 30.0, sessions=SESSIONS)
    samples = [sorted(time for session in sessions for time in session) for sessions in found]
    samples = [times[: len(times) // 5] for times in samples]
    return [replace(row, latency=Latency.of(times, 1, 1)) for row, times in zip(rows, samples, strict=True)]


def row_of(row: Row) -> dict[str, Any]:
    """Return a row as numbers and words."""
    return asdict(row) | {"score": dict(row.score)}


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw accuracy over latency: a line from what pruning left to what the fine-tuning made of it."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 10, "axes.edgecolor": INK, "text.color": INK, "axes.labelcolor": INK})
    figure, axes = plt.subplots(figsize=(7.2, 3.6), dpi=160, layout="constrained")
    dense, *pruned = rows
    for row in pruned:
        assert row.pruned is not None
        x = 1e3 * row.latency.median
        axes.annotate(
            "",
            (x, 100 * row.score["value"] - 0.6),
            (x, 100 * row.pruned),
            arrowprops={"arrowstyle": "->", "color": GREY, "linewidth": 1.2},
        )
        axes.plot(x, 100 * row.pruned, "o", color="white", markeredgecolor=GREY, markersize=6, zorder=3)
    for row in rows:
        x, y = 1e3 * row.latency.median, 100 * row.score["value"]
        low, high = (100 * bound for bound in row.score["interval"])
        axes.errorbar(
            x, y, [[y - low], [high - y]], fmt="o", color=TEAL if row.removed else INK, markersize=8, zorder=4
        )
        name = f"-{row.removed} block{'s' * (row.removed > 1)}" if row.removed else "dense"
        speed = f"\n{dense.latency.median / row.latency.median:.2f}x" if row.removed else ""
        axes.annotate(name + speed, (x, y), (0, 12), textcoords="offset points", ha="center", fontsize=9)
    axes.plot([], [], "o", color=TEAL, markersize=8, label="after two epochs of fine-tuning, 95% interval")
    axes.plot([], [], "o", color="white", markeredgecolor=GREY, markersize=6, label="right after pruning")
    axes.legend(loc="lower right", frameon=False)
    latencies = [1e3 * row.latency.median for row in rows]
    margin = 0.12 * (max(latencies) - min(latencies))
    axes.set_xlim(min(latencies) - margin, max(latencies) + margin)
    axes.set_ylim(top=107)
    axes.set_yticks([60, 70, 80, 90, 100])
    axes.set_xlabel("latency of one image in onnxruntime, one thread, µs")
    axes.set_ylabel("accuracy, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eceff1")
    axes.set_axisbelow(True)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png", facecolor="white")


if __name__ == "__main__":
    main()
