"""`sparsify demo`: train a small residual network on real digits, remove layers, fine-tune, compare, write ONNX."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from sparsify.capture import capture
from sparsify.console import Show
from sparsify.cost import Cost, cost
from sparsify.demo_net import DIGITS_TRAINING, digits_resnet
from sparsify.errors import InputError
from sparsify.export.archive import save
from sparsify.export.onnx import export_onnx, feed
from sparsify.inputs import with_batch
from sparsify.job import Job
from sparsify.latency import Latency, measure
from sparsify.pipeline import score
from sparsify.program import Program
from sparsify.recipe import Recipe
from sparsify.report.files import write_json
from sparsify.task import Task, example_inputs, resolve
from sparsify.training.train import train

__all__ = ["Demo", "Row", "run_demo"]

_COUNTS = (1, 2, 4, 6)
_RETRAIN = "fine-tune:steps=2ep"
_HEADINGS = ("removed", "MACs", "parameters", "file", "latency", "speed", "pruned", "fine-tuned")


@dataclass(frozen=True)
class Row:
    """One model of the demo: the dense one, or what one command made of it.

    Attributes:
        removed: how many blocks are gone.
        cost: of the program.
        bytes: of the ONNX file.
        pruned: accuracy before the fine-tuning, or None for the dense model.
        score: accuracy in the end, with interval and n.
        latency: of one image in onnxruntime.
    """

    removed: int
    cost: Cost
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
        shown = [i for i, name in enumerate(_HEADINGS) if console.width >= 80 or name not in ("parameters", "file")]
        for index in shown:
            table.add_column(_HEADINGS[index], justify="right", no_wrap=True)
        for row in self.rows:
            cells = _cells(row, dense)
            table.add_row(*(cells[index] for index in shown))
        console.print(table)
        console.print(
            f"Accuracy in % (95% interval) on {dense.score['n']} images that were not trained on, after pruning and "
            f"after fine-tuning. Latency of one image in onnxruntime, median of {dense.latency.runs} runs in turns.\n\n"
            f"The files are in {self.folder}. What was run, for you to repeat:",
            highlight=False,
        )
        for command in self.commands:
            console.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)


def run_demo(folder: Path, seed: int, show: Show) -> Demo:
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
    model, dense = folder / "model.pt", folder / "dense.onnx"
    with _one_thread():
        trained = _trained(task, seed, show)
        save(trained, model)
        size = export_onnx(trained, dense)["bytes"]
        recipes = [
            Recipe((f"layer-prune:count={count},criterion=oracle",), _RETRAIN, "digits", seed=seed) for count in _COUNTS
        ]
        targets = [folder / f"small-{count}.onnx" for count in _COUNTS]
        reports = []
        for count, recipe, target in zip(_COUNTS, recipes, targets, strict=True):
            show(f"removing {count} of the blocks, fine-tuning, writing {target}")
            reports.append(Job(model, recipe, [target], on_step=show.step).run())
    show("measuring latency, all models in turns")
    inputs = feed(trained, with_batch(trained, 1))
    first, *others = measure([dense, *targets], [inputs] * (1 + len(targets)), seconds=3.0)
    rows = [Row(0, cost(trained), size, None, score(trained, task), first)]
    rows += [_row(*parts) for parts in zip(_COUNTS, reports, others, strict=True)]
    write_json(folder / "report.json", {"runs": reports})
    return Demo(rows, _commands(model, recipes, targets), folder)


@contextmanager
def _one_thread() -> Iterator[None]:
    """A network this small trains fastest on one thread, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _trained(task: Task, seed: int, show: Show) -> Program:
    show("training a residual network of 9 blocks on scikit-learn's digits")
    args, kwargs = example_inputs(task) or ((), {})
    program = capture(digits_resnet(seed), args, kwargs)
    return train(
        program,
        task,
        DIGITS_TRAINING,
        seed=seed,
        on_step=show.step,
    ).program


def _row(removed: int, report: dict[str, Any], latency: Latency) -> Row:
    return Row(
        removed=removed,
        cost=Cost(**report["after"]),
        bytes=report["artefacts"][0]["bytes"],
        pruned=report["scores"]["pruned"]["value"],
        score=report["scores"]["after"],
        latency=latency,
    )


def _cells(row: Row, dense: Row) -> list[str]:
    low, high = row.score["interval"]
    return [
        f"{row.removed} block{'s' * (row.removed > 1)}" if row.removed else "dense",
        f"{row.cost.macs / 1e6:.2f}M",
        f"{row.cost.parameters / 1e3:.0f}k",
        f"{row.bytes / 1024:.0f} KiB",
        f"{1e3 * row.latency.median:.0f} µs",
        f"{dense.latency.median / row.latency.median:.2f}x",
        "" if row.pruned is None else f"{100 * row.pruned:.1f}",
        f"{100 * row.score['value']:.1f} ({100 * low:.1f}-{100 * high:.1f})",
    ]


def _commands(model: Path, recipes: Sequence[Recipe], targets: Sequence[Path]) -> list[str]:
    runs = [
        shlex.join(["sparsify", str(model), *recipe.options(), "-o", str(target)])
        for recipe, target in zip(recipes, targets, strict=True)
    ]
    return [
        f"sparsify inspect {shlex.quote(str(model))}",
        *runs,
        "sparsify YOUR_MODEL.pt --inputs 1x3x224x224 --pass layer-prune -o small.onnx",
    ]
