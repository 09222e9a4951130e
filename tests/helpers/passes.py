"""Passes that go wrong, each in its own way."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import fx

from sparsify import registry
from sparsify.errors import PassError
from sparsify.pass_manager import Context, Contract, Pass
from sparsify.program import Program

aten = torch.ops.aten


@dataclass(frozen=True)
class Edit(Pass):
    """Apply a function to a copy of the graph."""

    contract: ClassVar[Contract] = Contract.LOSSY
    edit: Callable[[fx.Graph], None]

    def run(self, program: Program, context: Context) -> Program:
        graph = program.copy_graph()
        self.edit(graph)
        return program.with_graph(graph)


@dataclass(frozen=True)
class ExactEdit(Edit):
    """The same, with a promise."""

    contract: ClassVar[Contract] = Contract.EXACT


@dataclass(frozen=True)
class DanglingParameter(Pass):
    """Leave a parameter that nothing reads."""

    contract: ClassVar[Contract] = Contract.LOSSY

    def run(self, program: Program, context: Context) -> Program:
        more = {**program.parameters, "left.over": torch.nn.Parameter(torch.ones(2))}
        return replace(program, parameters=more)


@dataclass(frozen=True)
class Refusal(Pass):
    """Refuse."""

    contract: ClassVar[Contract] = Contract.EXACT

    def run(self, program: Program, context: Context) -> Program:
        raise PassError("It cannot be done.")


@dataclass(frozen=True)
class Crash(Pass):
    """Fall over something that nobody expected, or be interrupted."""

    contract: ClassVar[Contract] = Contract.EXACT
    error: BaseException

    def run(self, program: Program, context: Context) -> Program:
        raise self.error


@dataclass(frozen=True)
class Remember(Pass):
    """Keep what the manager hands over."""

    contract: ClassVar[Contract] = Contract.EXACT
    seen: list

    def run(self, program: Program, context: Context) -> Program:
        self.seen.append(context)
        context.record["answer"] = 42
        return program


def wrong_shape(graph: fx.Graph) -> None:
    """Give the first convolution twice as many channels as it takes."""
    node = next(node for node in graph.nodes if node.target is aten.conv2d.default)
    with graph.inserting_before(node):
        double = graph.call_function(aten.cat.default, ([node.args[0], node.args[0]], 1))
    node.update_arg(0, double)


def not_a_number(graph: fx.Graph) -> None:
    """Replace the first ReLU, which sees negative numbers, by a square root."""
    node = next(node for node in graph.nodes if node.target is aten.relu.default)
    node.target = aten.sqrt.default


def cycle(graph: fx.Graph) -> None:
    """Read a node before it is there."""
    first, second = [node for node in graph.nodes if node.target is aten.relu.default][:2]
    first.update_arg(0, second)


def other_values(graph: fx.Graph) -> None:
    """Replace the first ReLU by its neighbour."""
    node = next(node for node in graph.nodes if node.target is aten.relu.default)
    node.target = aten.gelu.default


def fewer_outputs(graph: fx.Graph) -> None:
    """Take the mean over the classes."""
    output = next(node for node in graph.nodes if node.op == "output")
    (value,) = output.args[0]
    with graph.inserting_before(output):
        mean = graph.call_function(aten.mean.dim, (value, [1]))
    output.args = ((mean,),)


def install(monkeypatch, **instances: Pass) -> None:
    """Let the specs of these names mean these passes."""
    make, find = registry.make, registry.find

    def with_these(package: str, spec: str):
        name = spec.replace("-", "_")
        return (instances[name], spec) if name in instances else make(package, spec)

    monkeypatch.setattr(registry, "make", with_these)
    monkeypatch.setattr(registry, "find", lambda package, name: name in instances or find(package, name))
