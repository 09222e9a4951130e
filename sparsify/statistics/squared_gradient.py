"""Mean squared gradient of the loss of single examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sparsify.batches import checked_loss
from sparsify.observation.calibration import Data
from sparsify.observation.subject import Subject
from sparsify.statistics import Statistic

__all__ = ["SquaredGradient"]


class SquaredGradient(Statistic):
    """E[g²], the diagonal of the empirical Fisher information: g is the gradient of one example's loss.

    A batch is divided into examples along the first dimension. Where its tensors do not share that dimension, where
    it holds something that cannot be divided, or where the program has a fixed batch size, g is the gradient of the
    batch's mean loss instead. It costs one backward run for each example; the result has the weight's shape.
    """

    data: ClassVar[Data] = "loss"

    def measure(self, subject: Subject) -> Mapping[str, Tensor]:
        """Measure it."""
        program, calibration = subject.program, subject.calibration
        assert calibration.task is not None
        model, parameters = program.module(copy=False), subject.trainable
        tensors = list(parameters.values())
        total, count = [torch.zeros_like(value) for value in tensors], 0
        if not tensors:
            return {}
        for batch in calibration.draw(program):
            for example in _examples(batch) if program.dynamic_batch else [batch]:
                with torch.enable_grad():
                    loss = checked_loss(calibration.task, model, example)
                    found = torch.autograd.grad(loss, tensors, allow_unused=True)
                for sum_, value in zip(total, found, strict=True):
                    if value is not None:
                        sum_.addcmul_(value, value)
                count += 1
        return {name: value.div_(max(1, count)) for name, value in zip(parameters, total, strict=True)}

    def bytes(self, subject: Subject, parameter: str) -> int:
        """Return the size of the gradient and of its square."""
        return 2 * subject.program.parameters[parameter].nbytes


def _examples(batch: Any) -> Iterator[Any]:
    """Yield the examples of a batch as batches of one, or the batch itself."""
    leaves, structure = pytree.tree_flatten(batch)
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in tensors}
    plain = all(isinstance(leaf, (Tensor, int, float, str, type(None))) for leaf in leaves)
    if len(sizes) != 1 or 0 in sizes or not plain:
        yield batch
        return
    for index in range(sizes.pop()):
        one = [leaf[index : index + 1] if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        yield pytree.tree_unflatten(one, structure)
