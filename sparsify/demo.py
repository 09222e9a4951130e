"""`sparsify demo`: train a small residual network on real digits, remove layers, fine-tune, compare, write ONNX."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sparsify.capture import capture
from sparsify.demo_net import DIGITS_TRAINING, digits_resnet
from sparsify.errors import InputError
from sparsify.export.archive import save
from sparsify.export.onnx import export_onnx, feed
from sparsify.job import Job, one_example, write_json
from sparsify.latency import Latency, measure
from sparsify.pipeline import score
from sparsify.recipe import Recipe
from sparsify.task import example_inputs, resolve
from sparsify.train import train

__all__ = ["Demo", "run_demo"]

_COUNTS = (1, 2, 4, 6)
_RETRAIN = "fine-tune:steps=2ep"


@dataclass(frozen=True)
class Row:
    """One model of the demo: the dense one, or what one command made of it."""

    name: str
    macs: int
    parameters: int
    bytes: int
    pruned: float | None
    score: dict[str, Any]
    latency: Latency


@dataclass(frozen=True)
class Demo:
    """What the demo made.

    Attributes:
        rows: the dense model first.
        commands: what the user can type to get the same; the last one is for their own model.
        folder: where the files are.
    """

    rows: Sequence[Row]
    commands: Sequence[str]
    folder: Path

    def print(self, console: Console) -> None:
        """Print the comparison and the commands that made it."""
        dense = self.rows[0]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in (
            "",
            "MACs",
            "parameters",
            "file",
            "latency",
            "speed",
            "accuracy: pruned",
            "fine-tuned (95% interval)",
        ):
            table.add_column(heading, justify="right" if heading else "left")
        for row in self.rows:
            low, high = row.score["interval"]
            table.add_row(
                row.name,
                f"{row.macs / 1e6:.2f}M",
                f"{row.parameters / 1e3:.0f}k",
                f"{row.bytes / 1024:.0f} KiB",
                f"{row.latency.median:.3f} ms",
                f"{dense.latency.median / row.latency.median:.2f}x",
                "" if row.pruned is None else f"{100 * row.pruned:.1f}%",
                f"{100 * row.score['value']:.1f}% ({100 * low:.1f} to {100 * high:.1f})",
            )
        console.print(table)
        n, latency = dense.score["n"], dense.latency
        console.print(
            f"accuracy on {n} images that were not trained on; latency in onnxruntime, one image, "
            f"{latency.threads} threads, median of {latency.runs} interleaved runs",
            style="dim",
            highlight=False,
        )
        console.print(f"\nThe files are in {self.folder}. What was run, for you to repeat:", highlight=False)
        for command in self.commands:
            console.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)


def run_demo(folder: Path, seed: int, show: Callable[[str], None]) -> Demo:
    """Train, save `model.pt`, remove layers at several counts with a short fine-tuning, and write ONNX files.

    Args:
        folder: where the files go; it is made when it is missing.
        seed: of training and fine-tuning.
        show: told what begins.

    Raises:
        UsageError: scikit-learn is missing.
        InputError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    task = resolve("digits")
    show("training a residual network of 9 blocks on scikit-learn's digits")
    args, kwargs = example_inputs(task) or ((), {})
    untrained = capture(digits_resnet(seed), args, kwargs)
    trained = train(
        untrained, task, DIGITS_TRAINING, seed=seed,
        on_step=lambda step: show(f"training: step {step.step} of {step.steps}, loss {step.loss:.3f}"),
    ).program  # fmt: skip
    model, dense = folder / "model.pt", folder / "dense.onnx"
    save(trained, model)
    size = export_onnx(trained, dense)["bytes"]
    reports, files, commands = [], [dense], [f"sparsify inspect {shlex.quote(str(model))}"]
    for count in _COUNTS:
        recipe = Recipe((f"layer-prune:count={count},criterion=oracle",), _RETRAIN, "digits", seed=seed)
        target = folder / f"small-{count}.onnx"
        show(f"removing {count} of the blocks")
        reports.append(Job(model, recipe, [target], stage=lambda text, c=count: show(f"{c} blocks: {text}")).run())  # type: ignore[misc]
        files.append(target)
        commands.append(shlex.join(["sparsify", str(model), *recipe.options(), "-o", str(target)]))
    show("measuring latency, all models in turns")
    inputs = feed(trained, one_example(trained))
    latencies = measure(files, [inputs] * len(files), seconds=3.0)
    first = Row(
        "dense",
        reports[0]["before"]["macs"],
        reports[0]["before"]["parameters"],
        size,
        None,
        score(trained, task),
        latencies[0],
    )
    rows = [first, *(_row(c, r, t) for c, r, t in zip(_COUNTS, reports, latencies[1:], strict=True))]
    write_json(folder / "report.json", {"runs": reports})
    commands.append("sparsify YOUR_MODEL.pt --inputs 1x3x224x224 --pass layer-prune -o small.onnx")
    return Demo(rows, commands, folder)


def _row(count: int, report: dict[str, Any], latency: Latency) -> Row:
    return Row(
        name=f"{count} block{'s' * (count > 1)} removed",
        macs=report["after"]["macs"],
        parameters=report["after"]["parameters"],
        bytes=report["artefacts"][0]["bytes"],
        pruned=report["scores"]["pruned"]["value"],
        score=report["scores"]["after"],
        latency=latency,
    )
