"""What `sparsify inspect` tells of a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sparsify.blocks import Block, Granularity, blocks
from sparsify.cost import Cost, cost, macs_by_node
from sparsify.freezing import frozen_weights
from sparsify.inputs import fixed_batch
from sparsify.program import Program
from sparsify.prunable import Prunable, prunable
from sparsify.removal import region_of
from sparsify.stream import Stream
from sparsify.verify import signature

__all__ = ["Inspection", "inspection"]


@dataclass(frozen=True)
class Inspection:
    """What a program costs and what could be removed.

    Attributes:
        cost: of the whole program.
        blocks: all blocks.
        savings: parameters and MACs that go away with each block alone, by its name.
        inputs: types and shapes by name.
        outputs: types and shapes.
        dynamic_batch: whether the program runs at any batch size.
        macs_batch: how many examples the MACs are those of.
        notes: of the capture.
        prunable: its groups, and what part of it can be pruned.
        frozen: which weights are frozen, in words.
    """

    cost: Cost
    blocks: Sequence[Block]
    savings: Mapping[str, tuple[int, int]]
    inputs: Mapping[str, str]
    outputs: Sequence[str]
    dynamic_batch: bool
    macs_batch: int
    notes: Sequence[str]
    prunable: Prunable
    frozen: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return everything JSON-able."""
        listed = [
            {**asdict(block), "parameter_count": self.savings[block.name][0], "macs": self.savings[block.name][1]}
            for block in self.blocks
        ]
        return {
            "cost": self.cost.as_dict(),
            **({"frozen_weights": self.frozen} if self.frozen else {}),
            "inputs": dict(self.inputs),
            "outputs": list(self.outputs),
            "dynamic_batch": self.dynamic_batch,
            "macs_batch": self.macs_batch,
            "notes": list(self.notes),
            "blocks": listed,
            **self.prunable.as_dict(),
        }


def inspection(program: Program, granularity: Granularity = "layer") -> Inspection:
    """Look at a program: its cost, its blocks and its groups."""
    found = blocks(program, granularity)
    macs, stream = macs_by_node(program), Stream(program)
    nodes = {node.name: node for node in program.graph.nodes}
    savings = {}
    for block in found:
        region = region_of(stream, nodes[block.entry], nodes[block.exit], block)
        parameters = sum(program.parameters[name].numel() for name in block.parameters)
        savings[block.name] = (parameters, sum(macs.get(node.name, 0) for node in region))
    return Inspection(
        cost=cost(program),
        blocks=found,
        savings=savings,
        inputs={node.name: program.spelled(_described(node.meta.get("val"))) for node in program.placeholders},
        outputs=signature(program),
        dynamic_batch=program.dynamic_batch,
        macs_batch=fixed_batch(program) or 1,
        notes=program.notes,
        prunable=prunable(program),
        frozen=frozen_weights(program),
    )


def _described(value: Any) -> str:
    if not hasattr(value, "shape"):
        return repr(value)
    return f"{str(value.dtype).removeprefix('torch.')}[{', '.join(map(str, value.shape))}]"
