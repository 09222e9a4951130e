"""How much a block turns its input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor
from torch.nn import functional as F

from sparsify.observation.subject import Subject
from sparsify.observation.watching import Watched
from sparsify.statistics import Streamed

__all__ = ["Influence"]


class Influence(Streamed):
    """1 - cosine between what goes into a block and what comes out of it, mean over the data; a scalar for each block.

    For sequences the cosine is taken for each token, for other activations over each example as a whole.
    """

    def attach(self, subject: Subject, watched: Watched) -> Sequence[Tensor]:
        """Look at entry and exit of every block."""
        nodes = {node.name: node for node in subject.program.graph.nodes}
        self._found: dict[str, list[Tensor]] = {}
        for block in subject.blocks:
            watched.look_at([nodes[block.entry], nodes[block.exit]], partial(self._see, block.name))
        return []

    def _see(self, name: str, before: Tensor, after: Tensor) -> None:
        if before.ndim != 3:
            before, after = before.flatten(1), after.flatten(1)
        cosine = F.cosine_similarity(before.double(), after.double(), dim=-1)
        total, count = self._found.get(name, (cosine.new_zeros(()), cosine.new_zeros(())))
        self._found[name] = [total + (1 - cosine).sum(), count + cosine.numel()]

    def result(self) -> Mapping[str, Tensor]:
        """Return the means."""
        return {name: total / count.clamp_min(1) for name, (total, count) in self._found.items()}
