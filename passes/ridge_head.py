"""The pass `ridge-head`: fit the last layer to the task's labels in closed form; the features stay as they are."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsify.errors import PassError, UsageError
from sparsify.heads import head
from sparsify.layers import Layer
from sparsify.observation.calibration import Calibration
from sparsify.observation.watching import Rows, Watched
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program

__all__ = ["RidgeHead"]


@dataclass(frozen=True)
class RidgeHead(Pass):
    """Fit the last layer to the labels by ridge regression, without a training step.

    On features x and one-hot labels y the weight minimises mean |W x + b - y|² + δ|W|², where δ is a share of the mean
    square of the features around their mean; the bias is not damped, and a layer without one gets none. On features
    that were never trained (`redraw`) this is an extreme learning machine, or a random vector functional link network.
    The results estimate probabilities: their largest is the answer, but a cross-entropy takes them for flat logits.

    Options:
        damping: δ as a share of the mean variance of the features.
        batches: how many training batches are looked at; all if it is not said.
        layer: the weight or its module, where the model has several last layers.

    Reference: Huang et al., "Extreme Learning Machine: Theory and Applications", 2006; Pao et al., "Learning and
    Generalization Characteristics of the Random Vector Functional-Link Net", 1994.
    """

    contract: ClassVar[Contract] = Contract.LOSSY

    damping: float = 1e-3
    batches: int | None = None
    layer: str = ""

    def __post_init__(self) -> None:
        if self.damping < 0:
            raise UsageError(f"ridge-head: damping={self.damping} is negative.")
        if self.batches is not None and self.batches < 1:
            raise UsageError(f"ridge-head: batches={self.batches} is less than 1.")

    def run(self, program: Program, context: Context) -> Program:
        """Look at features and labels, and solve."""
        task: Any = context.task
        if not hasattr(task, "labels"):
            raise PassError("Labels are needed: give a task with labels(batch) -> int64[N], such as digits.")
        found = head(program, self.layer)
        name = found.parameter
        old = program.parameters[name]
        classes = found.layout.sizes(old.shape)[1]
        calibration = Calibration(task, self.batches or sys.maxsize, context.seed)
        moments = _Moments(program, found, classes, calibration)
        weight, bias = moments.solved(self.damping, centred=found.bias is not None)
        made = found.layout.restore(weight[None], old.shape).to(old.device, old.dtype).contiguous()
        new = {name: nn.Parameter(made, requires_grad=old.requires_grad)}
        if found.bias is not None:
            before = program.parameters[found.bias]
            new[found.bias] = nn.Parameter(bias.to(before.device, before.dtype), requires_grad=before.requires_grad)
        done = f"{name} is fitted to the labels of {moments.count:,} examples"
        context.record.update(examples=moments.count, done=done)
        return replace(program, parameters={**program.parameters, **new})


class _Moments:
    """Sums over all examples of features, one-hot labels and their products, in float64."""

    def __init__(self, program: Program, layer: Layer, classes: int, calibration: Calibration) -> None:
        self._seen: list[Tensor] = []
        watched = Watched(program)
        watched.rows(layer, self._see)
        task: Any = calibration.task
        self.count = 0
        sums: list[Tensor] = []
        with torch.no_grad():
            for batch, _ in calibration.run(watched.ready(), program):
                x = torch.cat(self._seen)
                self._seen.clear()
                labels = task.labels(batch).flatten().to(x.device)
                if len(x) != len(labels) or int(labels.max()) >= classes:
                    raise PassError(
                        f"The last layer gets {len(x)} rows of features and gives {classes} classes, and the task has "
                        f"{len(labels)} labels up to {int(labels.max())}: one for each row is needed."
                    )
                ones = torch.cat([x, x.new_ones(len(x), 1)], 1)
                y = F.one_hot(labels, classes).double()
                more = [ones.T @ ones, ones.T @ y]
                sums = [a + b for a, b in zip(sums, more, strict=True)] if sums else more
                self.count += len(x)
        self._gram, self._cross = (value / self.count for value in sums)

    def _see(self, rows: Rows) -> None:
        self._seen += [part.detach().double().reshape(-1, part.shape[-1]) for part in rows]

    def solved(self, damping: float, *, centred: bool) -> tuple[Tensor, Tensor]:
        """Return the weight `[classes, features]` and the bias."""
        gram, cross, mean, share = self._gram[:-1, :-1], self._cross[:-1], self._gram[-1, :-1], self._cross[-1]
        if centred:
            gram, cross = gram - mean[:, None] * mean, cross - mean[:, None] * share
        delta = damping * gram.diagonal().mean().clamp_min(1e-12)
        # The pseudo-inverse, for features that never differ: they have no variance, and without damping no solution.
        system = gram + delta * torch.eye(len(gram), device=gram.device, dtype=gram.dtype)
        weight: Tensor = (torch.linalg.pinv(system, hermitian=True) @ cross).T
        return weight, share - weight @ mean
