"""Claim: every network that sparsify prunes computes what the masked network computes; what it cannot, it refuses.

Networks: all of the tests' zoo (`tests/helpers/zoo.py`), 83 small ones with random weights, 64 of them written by hand
to be awkward. Half of every group goes, by magnitude: ours with `channel-prune:sparsity=0.5,units=all` and shrink,
Torch-Pruning with the defaults of its pruner, told which layers make the output. Where its examples show settings for
a family (number of heads, sizes written into modules afterwards) it is run with them as well: `theirs, set up`.

Limit: what can be said. Both are judged alike by what they kept (`judge.py`), on the original module.

Reading: `equal to masked`, `equal, norms count what is kept` and `equal to reference` are right: the second and the
third are what removing means where the number of channels counts. `differs` runs, gives outputs of the right shape,
and computes something else: the one that nobody notices. `broken` does not run after pruning or has outputs of
another shape; `error` is an exception while pruning; `refused` is an exception that says why, which is ours to give;
`nothing pruned` is what it says. `left` is the fraction of the parameters that are left.
"""

from __future__ import annotations

import copy
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from common import QUICK, save, table
from judge import Kept, judge, run, same_types
from rival import VERSION, dependencies, examples_settings, pruner, write_heads
from torch import Tensor, nn

import sparsify as sp
from sparsify import verify
from sparsify.axes import Axes, axes
from sparsify.axes.axis import leaves
from sparsify.errors import ContractError, SparsifyError
from sparsify.passes.channel_prune import ChannelPrune
from sparsify.pruning.reference import member_masks

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.zoo import FAMILIES, NETWORKS

SIDES = ("ours", "theirs", "theirs, set up")
PIPELINE = ("channel-prune:sparsity=0.5,units=all", "shrink")
SECONDS = 30  # of processor time, for one network and side; nearly all take less than one
RIGHT = ("equal to masked", "equal, norms count what is kept", "equal to reference")
WRONG = ("differs", "broken", "error")


def main() -> None:
    zoo = {**FAMILIES, **NETWORKS}
    names = list(zoo)[::8] if QUICK else list(zoo)
    results: dict[str, dict[str, Any]] = {}
    for name in names:
        results[name] = _network(zoo[name])
        said = "; ".join(f"{side}: {r['verdict']} {r.get('why', '')}".rstrip() for side, r in results[name].items())
        print(f"{name}: {said}", flush=True)
    verdict_of = {name: [r[side]["verdict"] if side in r else "" for side in SIDES] for name, r in results.items()}
    table(["network", *SIDES], [[name, *verdicts] for name, verdicts in verdict_of.items()])
    counts = {side: Counter(r[side]["verdict"] for r in results.values() if side in r) for side in SIDES}
    verdicts = [*RIGHT, *WRONG, "refused", "nothing pruned"]
    table(["verdict", *SIDES], [[v, *(counts[side][v] for side in SIDES)] for v in verdicts])
    save(
        __file__,
        f"all of {len(results)} networks are pruned to what their masked selves compute, or refused with a reason",
        not any(counts["ours"][verdict] for verdict in WRONG),
        " ".join(f"{side}: {_say(counts[side])}." for side in SIDES),
        {
            "counts": {side: dict(count) for side, count in counts.items()},
            "torch-pruning": VERSION,
            "networks": results,
        },
    )


def _say(counts: Mapping[str, int]) -> str:
    right = sum(counts[verdict] for verdict in RIGHT)
    rest = [f"{counts[v]} {v}" for v in (*WRONG, "refused", "nothing pruned") if counts[v]]
    return ", ".join([f"{right} of {sum(counts.values())} right", *rest])


def _network(make: Callable[[], Any]) -> dict[str, Any]:
    torch.manual_seed(0)
    model, args, kwargs = make()
    inputs = (args, kwargs)
    results: dict[str, Any] = {}
    try:
        program = sp.capture(copy.deepcopy(model), args, kwargs)
        found: Axes | None = axes(program)
    except SparsifyError as error:
        program, found = None, None
        results["ours"] = {"verdict": "refused", "why": _short(error)}
    if program is not None:
        results["ours"] = _attempt(lambda: _ours(model, inputs, program))
    results["theirs"] = _attempt(lambda: _theirs(model, inputs, found, set_up=False))
    if examples_settings(model):
        results["theirs, set up"] = _attempt(lambda: _theirs(model, inputs, found, set_up=True))
    return results


def _attempt(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        with _limited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run()
    except ContractError as error:
        return {"verdict": "error", "why": _short(error)}
    except SparsifyError as error:
        return {"verdict": "refused", "why": _short(error)}
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is the result
        return {"verdict": "error", "why": _short(error)}


def _ours(model: nn.Module, inputs: Any, program: sp.Program) -> dict[str, Any]:
    decided: list[Any] = []
    decide = ChannelPrune._decide

    def watched(self: ChannelPrune, found: Axes, *rest: Any) -> Any:
        keep = decide(self, found, *rest)
        decided.append((found, keep))
        return keep

    with mock.patch.object(ChannelPrune, "_decide", watched):
        result = sp.run(program, PIPELINE)
    found, keep = decided[-1]
    if not keep:
        return {"verdict": "nothing pruned"}
    outputs = verify.outputs(result.program)
    return judge(model, inputs, member_masks(found, keep), outputs, found) | {
        "left": result.report["after"]["parameters"] / result.report["before"]["parameters"]
    }


def _theirs(model: nn.Module, inputs: Any, found: Axes | None, *, set_up: bool) -> dict[str, Any]:
    """Prune a copy; the gradients hold the position of every weight, and are pruned with the weights."""
    args, kwargs = inputs
    example = kwargs or args
    clone = copy.deepcopy(model)
    for value in clone.parameters():
        value.grad = torch.arange(value.numel(), dtype=value.dtype).view(value.shape)
    settings = examples_settings(clone) if set_up else {}
    pruner(clone, example, 0.5, ignored_layers=_output_layers(clone, example, found), **settings).step()
    if set_up:
        write_heads(clone)
    kept = _kept(model, clone)
    if not kept:
        return {"verdict": "nothing pruned"}
    total, left = (sum(value.numel() for value in m.parameters()) for m in (model, clone))
    try:
        outputs = run(clone, inputs)
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is the result
        return {"verdict": "broken", "why": _short(error), "left": left / total}
    if not same_types(run(model, inputs), outputs):
        return {"verdict": "broken", "why": "the outputs have other shapes", "left": left / total}
    return judge(model, inputs, kept, outputs, found) | {"left": left / total}


def _kept(model: nn.Module, pruned: nn.Module) -> Kept:
    """Return which weights are left of the parameters that lost some."""
    kept: dict[str, Tensor] = {}
    left = dict(pruned.named_parameters(remove_duplicate=False))
    for name, value in model.named_parameters(remove_duplicate=False):
        if name in left and left[name].numel() < value.numel():
            mask = torch.zeros(value.numel(), dtype=torch.bool)
            mask[left[name].grad.flatten().long()] = True
            kept[name] = mask.view(value.shape)
    return kept


def _output_layers(model: nn.Module, example: Any, found: Axes | None) -> list[nn.Module]:
    """Return the layers that make outputs, as far as Torch-Pruning or we know them."""
    from torch_pruning.ops import OPTYPE

    ignored = [
        group[0].dep.target.module
        for group in dependencies(model, example).get_all_groups()
        if any(dep.target.type == OPTYPE.OUTPUT for dep, _ in group)
    ]
    if found is None:
        return ignored
    nodes = {str(node.target): node for node in found.dims if node.op == "get_attr"}
    nodes |= {alias: nodes[name] for alias, name in found.program.aliases.items()}
    output = next(node for node in reversed(found.program.graph.nodes) if node.op == "output")
    made = {leaf for value in output.all_input_nodes for axis in found.dims[value] for leaf in leaves(axis)}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd) and f"{name}.weight" in nodes:
            axis = found.dims[nodes[f"{name}.weight"]][1 if getattr(module, "transposed", False) else 0]
            if made.intersection(leaves(axis)):
                ignored.append(module)
    return ignored


@contextmanager
def _limited() -> Iterator[None]:
    """Raise TimeoutError in what takes too long."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"took more than {SECONDS} seconds of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS, 1.0)  # and again, should it be raised where nobody listens
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


if __name__ == "__main__":
    main()
