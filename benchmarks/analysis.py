"""Claim: axis inference takes 1/20 of the time of Torch-Pruning's analysis, pruning 1/5; analysis grows linearly.

Models with random weights: transformers' default ResNet-50 and a BERT of 6 layers (128 tokens), and DenseNet-121;
batch size 1. Both sides do the same in the same process, in turns, with the garbage collected before every line:
ours from a captured program, theirs from a module. Torch-Pruning is set up as its own examples do it (`rival.py`).

Limit: what both have to do. Pruning reads every weight for its score and copies every weight that stays. On our side
torch.export comes before (`capture`, paid once for a model), on theirs a forward pass, which is their tracing.

Reading: `analysis` compares axes and groups with `build_dependency` and `get_all_groups`; `prune` compares
channel-prune and shrink with making their pruner (which does both of these) and its step. `prune, shapes too` adds
what lies between the two passes: all shapes are derived again before shrink reads them. It decides whether the claim
holds, because nobody can do without. `from the module` adds capture, too. `verified` is the same pipeline in the
pass manager, which runs the model to prove the result; they have nothing like it. `exponent` is the slope of
log(time) or log(peak memory) over log(nodes) for chains of residual blocks of 1,000 to 50,000 nodes; theirs are
measured to 10,000 nodes. Ours pauses Python's garbage collector, which would walk through the whole growing graph
again and again. `cpu` is processor time of all threads; where it says something else than `wall`, the machine was busy.
"""

from __future__ import annotations

import copy
import gc
import statistics
import time
import tracemalloc
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from chain import chain, network
from common import QUICK, Clock, save, table
from rival import MODELS, VERSION, Model, dependencies, pruner_of
from torch import Tensor, nn

import sparsify as sp
from sparsify.axes import axes
from sparsify.groups import groups_of
from sparsify.pass_manager import Context
from sparsify.passes.channel_prune import ChannelPrune
from sparsify.passes.shrink import Shrink
from sparsify.program import Program
from sparsify.shapes import KnownShapes, propagate_shapes

REPEATS = 2 if QUICK else 9
ANALYSIS, PRUNE, EXPONENT = 20.0, 5.0, 1.15  # the goals
PIPELINE = ("channel-prune:sparsity=0.5,units=all", "shrink")
CHAINS = (48, 476, 2380)  # blocks: 1018, 10006 and 49990 nodes
THEIR_CHAINS = (48, 143, 476)  # it walks through every group from every layer

RATIOS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # their lines and ours
    "analysis": (("theirs: build", "theirs: groups"), ("ours: axes and groups",)),
    "prune": (("theirs: pruner", "theirs: step"), ("ours: channel-prune", "ours: shrink")),
    "prune, shapes too": (
        ("theirs: pruner", "theirs: step"), ("ours: channel-prune", "ours: shapes", "ours: shrink"),
    ),
    "from the module": (
        ("theirs: pruner", "theirs: step"), ("capture", "ours: channel-prune", "ours: shapes", "ours: shrink"),
    ),
}  # fmt: skip


def main() -> None:
    models = {name: _model(case) for name, case in MODELS.items()}
    lines = list(next(iter(models.values()))["wall"])
    for kind in ("wall", "cpu"):
        rows = [[line, *(f"{1e3 * model[kind][line]['median']:.1f}" for model in models.values())] for line in lines]
        table([f"{kind}, milliseconds", *models], rows)
        ratios = [model[f"{kind}_ratio"] for model in models.values()]
        table([f"{kind}, ratio", *models], [[key, *(ratio[key] for ratio in ratios)] for key in RATIOS])
    ours = _scaling(CHAINS, lambda count: chain(network(count)), lambda program: groups_of(axes(program)))
    theirs = _scaling(THEIR_CHAINS, network, _their_groups)
    lines = ["time", "memory", "seconds", "mib"]
    sides = {"ours": ours, "theirs": theirs}.items()
    table(["chains", *lines], [[name, *(s[k] if k in lines[:2] else s[k][-1] for k in lines)] for name, s in sides])
    least = {key: min(model["wall_ratio"][key] for model in models.values()) for key in RATIOS}
    grows = max(ours["time"], ours["memory"])
    save(
        __file__,
        f"axes and groups take 1/{ANALYSIS:g} of the time of Torch-Pruning {VERSION}, pruning 1/{PRUNE:g}, and the "
        f"analysis grows with exponent {EXPONENT} or less",
        least["analysis"] >= ANALYSIS and least["prune, shapes too"] >= PRUNE and grows <= EXPONENT,
        "; ".join(f"{key}: {value:.1f} times or more" for key, value in least.items())
        + f". Exponents: time {ours['time']:.2f} (theirs {theirs['time']:.2f}), memory {ours['memory']:.2f}. "
        f"Median of {REPEATS} repeats.",
        {"models": models, "scaling": {"ours": ours, "theirs": theirs}},
    )


def _model(case: Model) -> dict[str, Any]:
    model, example = case.make()
    clocks = []
    for turn in range(1 + REPEATS):  # the first turn imports what is needed and is not counted
        clock, parameters = _repeat(case, model, example)
        if turn:
            clocks.append(clock)
    result: dict[str, Any] = {"parameters": parameters, "threads": torch.get_num_threads()}
    for kind in ("wall", "cpu"):
        samples = [getattr(clock, kind) for clock in clocks]
        result[kind] = found = {line: _quartiles([sample[line] for sample in samples]) for line in samples[0]}
        result[f"{kind}_ratio"] = {
            key: sum(found[line]["median"] for line in theirs) / sum(found[line]["median"] for line in ours)
            for key, (theirs, ours) in RATIOS.items()
        }
    return result


def _repeat(case: Model, model: nn.Module, example: Mapping[str, Tensor]) -> tuple[Clock, dict[str, int]]:
    """Time every line once; return the number of parameters that the pruned models have, too."""
    clock = Clock()

    def timed(line: str, run: Callable[[], Any]) -> Any:
        gc.collect()
        with clock.stage(line):
            return run()

    program: Program = timed("capture", lambda: sp.capture(model, (), dict(example)))
    timed("ours: axes and groups", lambda: groups_of(axes(program)))
    prune = ChannelPrune(sparsity=0.5, units=("all",))
    masked: Program = timed("ours: channel-prune", lambda: prune.run(program, Context()))
    timed("ours: shapes", lambda: propagate_shapes(masked, KnownShapes(program)))  # as the pass manager does
    shrunk: Program = timed("ours: shrink", lambda: Shrink().run(masked, Context()))
    timed("ours: verified", lambda: sp.run(program, PIPELINE))

    clone, ignored = copy.deepcopy(model), case.ignored
    graph = timed("theirs: build", lambda: dependencies(clone, dict(example)))
    timed("theirs: groups", lambda: list(graph.get_all_groups(ignored_layers=ignored(clone))))
    clone = copy.deepcopy(model)
    pruner = timed("theirs: pruner", lambda: pruner_of(case, clone, dict(example), 0.5, 0.5))
    timed("theirs: step", pruner.step)
    left = {"dense": program.parameters, "ours": shrunk.parameters, "theirs": dict(clone.named_parameters())}
    return clock, {side: sum(value.numel() for value in values.values()) for side, values in left.items()}


def _quartiles(seconds: Sequence[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def _scaling(counts: Sequence[int], make: Callable[[int], Any], run: Callable[[Any], Any]) -> dict[str, Any]:
    """Fit the exponents of time and peak memory over the number of nodes of our graph."""
    found: dict[str, list[float]] = {"nodes": [], "seconds": [], "mib": []}
    for count in counts:
        made = make(count)
        found["nodes"].append(21 * count + 10)
        assert not isinstance(made, Program) or len(made.graph.nodes) == found["nodes"][-1]
        found["seconds"].append(_seconds(partial(run, made)))
        tracemalloc.start()
        run(made)
        found["mib"].append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    lines = {"time": "seconds", "memory": "mib"}
    slope = {name: np.polyfit(np.log(found["nodes"]), np.log(found[line]), 1)[0] for name, line in lines.items()}
    return {**{name: float(value) for name, value in slope.items()}, **found}


def _seconds(run: Callable[[], Any]) -> float:
    samples = []
    for _ in range(1 + REPEATS):  # the first one is not counted
        gc.collect()
        start = time.perf_counter()
        run()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples[1:])


def _their_groups(model: nn.Module) -> Any:
    graph = dependencies(model, {"input": torch.randn(2, 3, 8, 8)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(graph.get_all_groups(ignored_layers=[model.get_submodule("head.2")]))


if __name__ == "__main__":
    main()
