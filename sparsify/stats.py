"""Calibration statistics, collected once for everything that a criterion needs.

Gradients are taken in evaluation mode (running statistics, no dropout), so that they do not depend on chance and
leave no trace in the program. Memory does not grow with the number of batches.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from sparsify import verify
from sparsify.blocks import Block
from sparsify.criteria import BlockStats, Need, WeightStats
from sparsify.errors import PassError
from sparsify.modes import ProgramModule
from sparsify.program import Program
from sparsify.removal import remove
from sparsify.task import Task
from sparsify.train import checked_loss, on_device

__all__ = ["Calibration", "Statistics", "collect"]

TEMPERATURE = 200.0  # of GraSP: the output is divided by it, as in the authors' code


@dataclass(frozen=True)
class Calibration:
    """The data that statistics are taken on.

    Attributes:
        task: gives batches and a loss; without it only the program's example is there, and no loss.
        batches: how many training batches are used.
        seed: of their order.
    """

    task: Task | None
    batches: int = 8
    seed: int = 0

    def check(self, program: Program, needs: Collection[Need], criterion: str) -> None:
        """Check that what a criterion needs can be had.

        Raises:
            PassError: it cannot; the message says what is lacking and how to give it.
        """
        if self.task is not None or not needs:
            return
        if {"gradient", "hessian_gradient"} & set(needs):
            raise PassError(
                f"The criterion {criterion} needs a loss: give a task (--task digits, --task my_task.py:make)."
            )
        if program.example.synthetic:
            raise PassError(
                f"The criterion {criterion} needs data, and the example inputs are random. Give a task (--task ...), "
                "real inputs (--inputs FILE.npz or FILE.safetensors), or a .pt2 file exported with real inputs."
            )

    def run(self, model: nn.Module, program: Program) -> Iterator[tuple[Any, Tensor | None]]:
        """Run a model on the calibration data; yield each batch with its loss, or the example with None."""
        if self.task is None:
            model(*program.example.args, **program.example.kwargs)
            yield program.example, None
            return
        device = next(iter(program.parameters.values())).device
        for drawn in islice(self.task.batches("train", seed=self.seed), self.batches):
            batch = on_device(drawn, device)
            yield batch, checked_loss(self.task, model, batch)


@dataclass(frozen=True)
class Statistics:
    """What was collected: tensors by parameter name, numbers by block name."""

    program: Program
    seed: int
    gradient: Mapping[str, Tensor] = field(default_factory=dict)
    hessian_gradient: Mapping[str, Tensor] = field(default_factory=dict)
    influence: Mapping[str, float] = field(default_factory=dict)
    damage: Mapping[str, float] = field(default_factory=dict)

    def of_weight(self, name: str) -> WeightStats:
        """Return the statistics of one parameter."""
        return WeightStats(
            weight=self.program.parameters[name],
            generator=self._generator(name),
            gradient=self.gradient.get(name),
            hessian_gradient=self.hessian_gradient.get(name),
        )

    def of_block(self, block: Block) -> BlockStats:
        """Return the statistics of one block; its weights are its matrices and kernels, or all if it has none."""
        heavy = [name for name in block.parameters if self.program.parameters[name].ndim >= 2]
        return BlockStats(
            weights=[self.of_weight(name) for name in heavy or block.parameters],
            generator=self._generator(block.name),
            influence=self.influence.get(block.name),
            damage=self.damage.get(block.name),
        )

    def _generator(self, name: str) -> torch.Generator:
        seed = zlib.crc32(f"{self.seed} {name}".encode())  # a CPU generator looks at 32 bits of its seed only
        return torch.Generator().manual_seed(seed)


def collect(
    program: Program, needs: Collection[Need], calibration: Calibration, blocks: Sequence[Block] = ()
) -> Statistics:
    """Collect the statistics named in `needs`.

    Args:
        program: not changed.
        needs: what to collect.
        calibration: the data; `Calibration.check` has found it sufficient.
        blocks: for which blocks, where a statistic is one of blocks.

    Raises:
        PassError: a statistic is not finite; the message names the parameter or block.
    """
    found: dict[str, Any] = {}
    if "gradient" in needs or "hessian_gradient" in needs:
        found["gradient"] = _gradients(program, calibration, 1.0 if "gradient" in needs else TEMPERATURE)
    if "hessian_gradient" in needs:
        first = found["gradient"] if "gradient" not in needs else _gradients(program, calibration, TEMPERATURE)
        found["hessian_gradient"] = _hessian_gradients(program, calibration, first)
    if "influence" in needs:
        found["influence"] = _influences(program, calibration, blocks)
    if "damage" in needs:
        found["damage"] = _damages(program, calibration, blocks)
    _check_finite(found)
    return Statistics(program, calibration.seed, **{name: value for name, value in found.items() if name in needs})


class _Tempered(nn.Module):
    """A model whose outputs are divided by a temperature."""

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return pytree.tree_map_only(Tensor, self._divide, self.model(*args, **kwargs))

    def _divide(self, value: Tensor) -> Tensor:
        return value / self.temperature if value.is_floating_point() else value


def _gradients(program: Program, calibration: Calibration, temperature: float) -> dict[str, Tensor]:
    model = program.module()
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    count = 0
    for _, loss in calibration.run(_Tempered(model, temperature) if temperature != 1 else model, program):
        assert loss is not None
        loss.backward()  # type: ignore[no-untyped-call]
        count += 1
    return {
        name: (p.grad if p.grad is not None else torch.zeros_like(p)).detach() / max(1, count)
        for name, p in parameters.items()
    }


def _hessian_gradients(program: Program, calibration: Calibration, gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Differentiate gᵀ·g(θ) with the first factor held fixed, which gives H g."""
    model = program.module()
    parameters = {name: p for name, p in model.named_parameters() if name in gradient}
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    count = 0
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
        for _, loss in calibration.run(_Tempered(model, TEMPERATURE), program):
            assert loss is not None
            found = torch.autograd.grad(loss, list(parameters.values()), create_graph=True, allow_unused=True)
            product = sum(
                (gradient[name] * g).sum() for name, g in zip(parameters, found, strict=True) if g is not None
            )
            assert isinstance(product, Tensor)
            second = torch.autograd.grad(product, list(parameters.values()), allow_unused=True)
            for name, value in zip(parameters, second, strict=True):
                if value is not None:
                    total[name] += value
            count += 1
    return {name: value / max(1, count) for name, value in total.items()}


class _Probe(nn.Module):
    """Sees the input and the output of a block; keeps the mean of 1 - cosine."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0
        self.count = 0

    def forward(self, before: Tensor, after: Tensor) -> None:
        if before.ndim != 3:
            before, after = before.flatten(1), after.flatten(1)
        cosine = nn.functional.cosine_similarity(before.double(), after.double(), dim=-1)
        self.total += float((1 - cosine).sum())
        self.count += cosine.numel()


def _influences(program: Program, calibration: Calibration, blocks: Sequence[Block]) -> dict[str, float]:
    model = program.module(copy=False)
    assert isinstance(model, ProgramModule)
    probes = [_Probe() for _ in blocks]
    nodes = {node.name: node for node in model.graph.nodes}
    for index, (block, probe) in enumerate(zip(blocks, probes, strict=True)):
        model.add_module(f"probe_{index}", probe)
        entry, exit_ = (_evaluated(program.node(name), nodes) for name in (block.entry, block.exit))
        with model.graph.inserting_after(exit_):
            model.graph.call_module(f"probe_{index}", (entry, exit_))
    model.recompile()
    with torch.no_grad():
        for _ in calibration.run(model, program):
            pass
    return {block.name: probe.total / max(1, probe.count) for block, probe in zip(blocks, probes, strict=True)}


def _evaluated(node: fx.Node, nodes: Mapping[str, fx.Node]) -> fx.Node:
    """Return what stands for `node` in the evaluation form, from which noise such as stochastic depth is taken out."""
    if node.name in nodes:
        return nodes[node.name]
    user = next(user for user in node.users if user.name in nodes and node in user.args)
    found = nodes[user.name].args[user.args.index(node)]
    assert isinstance(found, fx.Node)
    return found


def _damages(program: Program, calibration: Calibration, blocks: Sequence[Block]) -> dict[str, float]:
    """Run the program without each block in turn."""
    with torch.no_grad():
        if calibration.task is None:
            expected = verify.outputs(program)
            return {
                b.name: _output_change(expected, verify.outputs(remove(program, [b], simplify=False))) for b in blocks
            }
        base = _loss(program, calibration)
        return {block.name: _loss(remove(program, [block], simplify=False), calibration) - base for block in blocks}


def _loss(program: Program, calibration: Calibration) -> float:
    losses = [float(loss) for _, loss in calibration.run(program.module(copy=False), program) if loss is not None]
    return sum(losses) / max(1, len(losses))


def _output_change(expected: Sequence[Any], found: Sequence[Any]) -> float:
    """Return the relative L2 distance of all floating outputs together."""
    pairs = [(a.double(), b.double()) for a, b in zip(expected, found, strict=True) if torch.is_floating_point(a)]
    distance = sum(float((a - b).square().sum()) for a, b in pairs)
    return math.sqrt(distance / max(1e-30, sum(float(a.square().sum()) for a, _ in pairs)))


def _check_finite(found: Mapping[str, Mapping[str, Any]]) -> None:
    for kind, values in found.items():
        for name, value in values.items():
            if not bool(torch.isfinite(torch.as_tensor(value)).all()):
                raise PassError(
                    f"The statistic {kind} of {name} is not finite. Check the data, the loss and the model."
                )
