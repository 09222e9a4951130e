"""Memory: how much values a program has at once while it runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from sparsify.inputs import with_batch
from sparsify.program import Program
from sparsify.verify import copied

__all__ = ["peak_bytes"]


def peak_bytes(program: Program, batch: int = 1) -> int:
    """Return the most bytes of inputs and intermediate values that are alive at once, one operator after the other.

    It is counted in a run: each storage once, and none after its last reader, as PyTorch does without autograd.
    Parameters and buffers are not counted, nor what an operator takes for itself while it works.

    Args:
        program: what runs, in evaluation mode.
        batch: how many examples; a program with a fixed batch runs on its own.
    """
    leaves = with_batch(program, batch)
    counter = _Counter(program)
    with torch.no_grad():
        counter.run(*copied(leaves), enable_io_processing=False)
    return counter.peak


class _Counter(fx.Interpreter):
    def __init__(self, program: Program) -> None:
        module = program.module(copy=False)
        super().__init__(module)
        state = (*module.parameters(), *module.buffers())
        self._known = {value.untyped_storage().data_ptr() for value in state}
        self.peak = 0

    def run_node(self, n: fx.Node) -> Any:
        """Run a node, and count what is alive behind it; what is read for the last time is still there."""
        result = super().run_node(n)
        values = [leaf for leaf in pytree.tree_leaves([*self.env.values(), result]) if isinstance(leaf, Tensor)]
        storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in values}
        alive = sum(size for pointer, size in storages.items() if pointer not in self._known)
        self.peak = max(self.peak, alive)
        return result
