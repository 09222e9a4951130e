"""The pass `recalibrate-norm`: batch norms see the pruned model's values, and take their statistics anew."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from sparsify.errors import PassError, UsageError
from sparsify.norms import batch_norms
from sparsify.observation.calibration import Calibration
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program
from sparsify.reconstruction.outputs import output_gap
from sparsify.reconstruction.statistics import batch_statistics

__all__ = ["RecalibrateNorm"]


@dataclass(frozen=True)
class RecalibrateNorm(Pass):
    """Estimate the running means and variances of batch norms again, on calibration data; no labels are needed.

    Pruning changes what reaches a norm, and statistics of the model before pruning no longer fit. While the data runs
    through, every norm uses the statistics of its batch, as in training; afterwards it has those of all values
    together, so batches of different size count by their values. Weights stay as they are.

    Options:
        batches: how many training batches it looks at; without a task, the example inputs.

    Reference: Li et al., "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network Pruning", 2020 (adaptive
    batch normalisation after pruning).
    """

    contract: ClassVar[Contract] = Contract.LOSSY

    batches: int = 32

    def __post_init__(self) -> None:
        if self.batches < 1:
            raise UsageError(f"recalibrate-norm: batches={self.batches} is less than 1.")

    def run(self, program: Program, context: Context) -> Program:
        """Take the statistics anew."""
        calibration = Calibration(context.task, self.batches, context.seed)
        calibration.check(program, "inputs", "the pass recalibrate-norm")
        norms = batch_norms(program)
        if not norms:
            raise PassError("The model has no batch norm with running statistics: there is nothing to recalibrate.")
        buffers = dict(program.buffers)
        for node, mean, variance in batch_statistics(program, norms, calibration):
            for place, value in ((3, mean), (4, variance)):
                name = str(node.args[place].target)  # type: ignore[union-attr]
                buffers[name] = value.to(buffers[name].dtype)
        after = replace(program, buffers=buffers)
        moved = output_gap(program, after, calibration)
        context.record.update(
            norms=len(norms),
            output_moved=moved,
            done=f"{len(norms)} norms have new statistics; the output moved by {moved:.3g} (relative)",
        )
        return after
