"""What `sparsify inspect` tells of a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sparsify.blocks import Block, Granularity, blocks
from sparsify.cost import Cost, cost, macs_by_node
from sparsify.program import Program
from sparsify.removal import remove
from sparsify.verify import signature

__all__ = ["Inspection", "inspection"]


@dataclass(frozen=True)
class Inspection:
    """What a program costs and what could be removed.

    Attributes:
        cost: of the whole program.
        blocks: all blocks.
        savings: parameters and MACs that go away with each block alone, by its name.
        outputs: types and shapes.
        notes: of the capture.
    """

    cost: Cost
    blocks: Sequence[Block]
    savings: Mapping[str, tuple[int, int]]
    outputs: Sequence[str]
    notes: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """Return everything JSON-able."""
        listed = [
            {**asdict(block), "parameter_count": self.savings[block.name][0], "macs": self.savings[block.name][1]}
            for block in self.blocks
        ]
        return {
            "cost": self.cost.as_dict(),
            "outputs": list(self.outputs),
            "notes": list(self.notes),
            "blocks": listed,
        }


def inspection(program: Program, granularity: Granularity = "layer") -> Inspection:
    """Look at a program: its cost and its blocks."""
    found = blocks(program, granularity)
    macs = macs_by_node(program)
    savings = {}
    for block in found:
        kept = {node.name for node in remove(program, [block], simplify=False).graph.nodes}
        parameters = sum(program.parameters[name].numel() for name in block.parameters)
        savings[block.name] = (parameters, sum(value for name, value in macs.items() if name not in kept))
    return Inspection(cost(program), found, savings, signature(program), program.notes)
