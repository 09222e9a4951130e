"""The modules of a program in numbers: shapes, zeros, multiply-accumulates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from sparsify.cost import macs_by_node
from sparsify.freezing import thawed
from sparsify.layers import layers
from sparsify.lowering.raising import sparse_layers
from sparsify.masking import baked
from sparsify.naming import module_of
from sparsify.program import Program
from sparsify.renumbering import renamed

__all__ = ["Modules", "Side", "in_order", "written_out"]


def written_out(program: Program) -> Program:
    """Return a program with its masks written into the weights, and what is frozen, too."""
    return baked(thawed(program) if program.frozen else program)


@dataclass(frozen=True)
class Side:
    """A module in one of two models.

    Attributes:
        shape: of its largest parameter.
        parameters: how many values it has.
        nonzero: how many of them are not zero.
        macs: multiply-accumulates of its layers.
    """

    shape: tuple[int, ...]
    parameters: int
    nonzero: int
    macs: int


@dataclass(frozen=True)
class Modules:
    """The modules of a program that hold parameters.

    Attributes:
        values: by module and name the parameters, masks applied, frozen ones with what they stay at.
        macs: by module the multiply-accumulates of its layers, of `batch` examples where the batch size is dynamic.
        rest: the multiply-accumulates of operators that belong to no module.
    """

    values: Mapping[str, Mapping[str, Tensor]]
    macs: Mapping[str, int]
    rest: int

    @classmethod
    def of(cls, program: Program, batch: int = 1) -> Modules:
        """Look at a program."""
        values: dict[str, dict[str, Tensor]] = {}
        for name, value in written_out(program).parameters.items():
            values.setdefault(module_of(name), {})[name] = value.detach()
        counted, macs = macs_by_node(program, batch=batch), dict[str, int]()
        owned = {layer.node.name: layer.module for layer in layers(program)}
        owned |= {node.name: module_of(name) for node, name in sparse_layers(program)}
        for node, module in owned.items():
            macs[module] = macs.get(module, 0) + counted.get(node, 0)
        return cls(values, macs, sum(counted.values()) - sum(macs.values()))

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The parameters of all modules by their names."""
        return {name: value for held in self.values.values() for name, value in held.items()}

    def renamed(self, blocks: Mapping[str, str]) -> Modules:
        """Return the same with other names for some blocks."""
        values = {
            renamed(module, blocks): {renamed(name, blocks): value for name, value in held.items()}
            for module, held in self.values.items()
        }
        return replace(self, values=values, macs={renamed(module, blocks): n for module, n in self.macs.items()})

    def side(self, module: str) -> Side | None:
        """Return a module in numbers; None where there is none of that name."""
        if module not in self.values:
            return None
        held = self.values[module].values()
        return Side(
            shape=tuple(max(held, key=Tensor.numel).shape),
            parameters=sum(value.numel() for value in held),
            nonzero=sum(int(value.count_nonzero()) for value in held),
            macs=self.macs.get(module, 0),
        )


def in_order(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Merge the names of both; what only the second has stands behind what it follows there."""
    names, place = list(first), 0
    for name in second:
        if name in first:
            place = names.index(name) + 1
        else:
            names.insert(place, name)
            place += 1
    return names
