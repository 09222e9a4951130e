"""Claim: what sparsify adds to torch.export, from a model to a pruned and verified program, takes under 2 s.

Models: transformers' default ResNet (50 layers, 1000 classes, 224x224) and BERT (base: 12 layers, 128 tokens), with
random weights, batch size 1. Each repeat captures the model, removes one layer, verifies the result and writes ONNX.

Limit: forward passes. Capture runs the model and its graph beside each other, on the example and on another batch size;
verification runs the pruned program; and where removing a block made an activation redundant, both forms run on two
batch sizes. `examples` counts the examples that went through the model and `forward passes` is their number times the
time of one example in the eager model: no bookkeeping of ours can be faster than that. `ours` is the rest: graph
copies, code generation, dominators, scores, shapes, reports.

Reading: `overhead` = capture without torch.export + pass + verify + report; it is what the claim is about. `ONNX`
is torch's exporter, onnxruntime's check and the file. `cpu` is processor time of all threads: on a machine that
others use too, trust it more than `wall`, but it exceeds `wall` where two threads run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from common import Clock, medians, save, table
from torch import Tensor, nn

import sparsify as sp
from sparsify import verify
from sparsify.pass_manager import Event

LIMIT = 2.0
REPEATS = 3
EAGER_RUNS = 5
STAGES = ("torch.export", "capture", "pass", "verify", "report", "ONNX")


def resnet() -> tuple[nn.Module, tuple[Tensor, ...]]:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig(num_labels=1000)), (torch.randn(1, 3, 224, 224),)


def bert() -> tuple[nn.Module, tuple[Tensor, ...]]:
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(BertConfig()), (torch.randint(0, 30000, (1, 128)),)


def main() -> None:
    results = {name: _measure(make) for name, make in {"ResNet-50": resnet, "BERT-base": bert}.items()}
    rows = [*STAGES, "overhead", "forward passes", "ours"]
    for kind in ("wall", "cpu"):
        table([f"{kind} seconds", *results], [[row, *(r[kind][row] for r in results.values())] for row in rows])
    overheads = {name: result["wall"]["overhead"] for name, result in results.items()}
    parts = [
        f"{name}: {r['wall']['overhead']:.2f} s beyond torch.export's {r['wall']['torch.export']:.2f} s, of which "
        f"{r['wall']['forward passes']:.2f} s are {r['examples']} examples through the model"
        for name, r in results.items()
    ]
    save(
        __file__,
        f"capture, layer-prune and verification take under {LIMIT:g} s beyond torch.export itself",
        max(overheads.values()) < LIMIT,
        f"{'; '.join(parts)}. Median of {REPEATS} repeats.",
        results,
    )


def _measure(make: Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]) -> dict[str, Any]:
    torch.manual_seed(0)
    model, args = make()
    model.eval()
    runs, examples, removed = [], 0, ""
    for turn in range(1 + REPEATS):  # the first turn imports what torch.export and onnx need and is not counted
        clock, examples, removed = _repeat(model, args)
        if turn:
            runs.append(clock)
    return {
        "removed": removed,
        "examples": examples,
        "threads": torch.get_num_threads(),
        "wall": medians([_split(clock.wall, examples) for clock in runs]),
        "cpu": medians([_split(clock.cpu, examples) for clock in runs]),
        "wall_of_each_repeat": [_split(clock.wall, examples) for clock in runs],
    }


def _repeat(model: nn.Module, args: tuple[Tensor, ...]) -> tuple[Clock, int, str]:
    clock, examples = Clock(), 0
    export, outputs = torch.export.export, verify.outputs

    def timed_export(*args: Any, **kwargs: Any) -> Any:
        with clock.stage("torch.export"):
            return export(*args, **kwargs)

    def counted_outputs(program: sp.Program, leaves: list[Any] | None = None) -> list[Any]:
        nonlocal examples
        examples += (program.example.leaves() if leaves is None else leaves)[0].shape[0]
        return outputs(program, leaves)

    with clock.stage("eager"), torch.no_grad():
        for _ in range(EAGER_RUNS):
            model(*args)
    with mock.patch.object(verify, "outputs", counted_outputs):
        with mock.patch.object(torch.export, "export", timed_export), clock.stage("capture"):
            program = sp.capture(model, args)
        examples *= 2  # capture runs the model wherever it runs the graph
        with clock.stage("run"):
            result = sp.run(program, ["layer-prune:count=1"], observer=_watch(clock))
    with tempfile.TemporaryDirectory() as folder, clock.stage("ONNX"):
        sp.export_onnx(result.program, Path(folder) / "pruned.onnx")
    return clock, examples, result.report["passes"][0]["removed"][0]


def _watch(clock: Clock) -> Callable[[Event], None]:
    """Return an observer that times the pass and its verification, each from one event to the next."""
    stack = ExitStack()

    def observe(event: Event) -> None:
        stack.close()
        if event.kind != "verified":
            stack.enter_context(clock.stage("pass" if event.kind == "started" else "verify"))

    return observe


def _split(seconds: dict[str, float], examples: int) -> dict[str, float]:
    """Return the stages without what is inside of them twice, and the sums that the claim is about."""
    split = {stage: seconds.get(stage, 0.0) for stage in STAGES}
    split["capture"] = seconds["capture"] - seconds["torch.export"]
    split["report"] = seconds["run"] - seconds["pass"] - seconds["verify"]
    split["overhead"] = sum(split[stage] for stage in ("capture", "pass", "verify", "report"))
    split["forward passes"] = examples * seconds["eager"] / EAGER_RUNS
    split["ours"] = split["overhead"] - split["forward passes"]
    return split


if __name__ == "__main__":
    main()
