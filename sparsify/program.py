"""Program: the immutable value that passes transform: a graph, its state, an example input and its history.

The graph is torch.export's ATen-level graph with parameters as `get_attr` nodes under their original names. It is
always kept in its training form; `sparsify.modes` derives the evaluation form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from sparsify.aliasing import live
from sparsify.errors import UsageError
from sparsify.graph import copied_graph, mask_nodes
from sparsify.graph_text import text
from sparsify.modes import ProgramModule
from sparsify.naming import plural
from sparsify.parallel.tensors import Whole

__all__ = ["PROVENANCE", "Example", "Names", "Program", "check_program", "dynamic_sizes"]


PROVENANCE = "sparsify"  # where the meta of an exported graph module holds what a `.pt2` file says of its program


@dataclass(frozen=True)
class Example:
    """The inputs that a program was captured with.

    Attributes:
        args: positional inputs.
        kwargs: keyword inputs.
        synthetic: the values are random because only their shapes were given; nothing may be measured on them.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    synthetic: bool = False

    def leaves(self) -> list[Any]:
        """Return the inputs in the order of the graph's placeholders."""
        return pytree.tree_leaves((self.args, dict(self.kwargs)))


@dataclass(frozen=True)
class Names:
    """What the file that a program was read from calls its inputs and outputs; a file that is written says the same.

    Attributes:
        inputs: the name in the file for each argument of the program.
        outputs: the names of the tensors that are returned, in their order.
    """

    inputs: Mapping[str, str]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Program:
    """A model as a graph, with everything that is needed to run, train, transform and save it.

    Nothing in a program is ever written in place: a pass returns a new program that shares every tensor that it did
    not change. The tensors may be the user's own, so their values are the model's as long as the user trains it.

    Attributes:
        graph: the graph in its training form; every node but the output carries `meta["val"]`, a fake tensor.
        parameters: trainable tensors by their original names.
        buffers: other tensors by their names: running statistics, tables, constants.
        example: the inputs that the program was captured with.
        aliases: further names of tied tensors, each with the name under which the tensor is kept.
        transient: names of buffers that the model's state dict does not hold.
        history: the canonical specs of the passes that made this program, first to last.
        notes: what a user should know, such as a batch size that the model froze.
        names: of inputs and outputs in the ONNX file that it was read from, if it was.
    """

    graph: fx.Graph
    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    example: Example
    aliases: Mapping[str, str] = field(default_factory=dict)
    transient: frozenset[str] = frozenset()
    history: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    names: Names | None = None

    def __post_init__(self) -> None:
        parameters = {name: _as_parameter(value) for name, value in self.parameters.items()}
        object.__setattr__(self, "parameters", parameters)
        for name in ("parameters", "buffers", "aliases"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def module(self, training: bool = False, *, copy: bool = True) -> ProgramModule:
        """Make a `torch.nn.Module` that computes the program.

        Args:
            training: the mode it starts in; `.train()` and `.eval()` switch it.
            copy: give the module its own tensors; without it the module shares them and must not be trained.

        Returns:
            A `torch.fx.GraphModule` with the original parameter names, called like the original model.
        """
        return ProgramModule(
            self.graph,
            {**self.parameters, **self.buffers},
            aliases=self.aliases,
            transient=self.transient,
            training=training,
            copy=copy,
        )

    def with_state(self, module: nn.Module) -> Program:
        """Return this program with the values that `module` (made by `module()`) has now.

        Raises:
            KeyError: the module lacks a tensor of the program.
        """
        state = Whole(
            {
                **dict(module.named_parameters(remove_duplicate=False)),
                **dict(module.named_buffers(remove_duplicate=False)),
            }
        )
        whole = getattr(module, "meta", {}).get("whole", {})  # that of a compact training has parts of them

        def value(name: str) -> Tensor:
            found: Tensor = whole[name](state) if name in whole else state[name].detach().clone()
            return found

        parameters = {
            name: nn.Parameter(value(name), requires_grad=old.requires_grad) for name, old in self.parameters.items()
        }
        return replace(self, parameters=parameters, buffers={name: value(name) for name in self.buffers})

    def with_graph(self, graph: fx.Graph) -> Program:
        """Return this program with another graph: dead nodes are dropped, and so is the state that nothing uses."""
        needed = live(graph)
        for node in reversed(list(graph.nodes)):
            if node not in needed:
                graph.erase_node(node)
        used = {node.target for node in graph.nodes if node.op == "get_attr"}
        parameters = {name: value for name, value in self.parameters.items() if name in used}
        return replace(
            self,
            graph=graph,
            parameters=parameters,
            buffers={name: value for name, value in self.buffers.items() if name in used},
            aliases={alias: name for alias, name in self.aliases.items() if name in used},
            transient=frozenset(self.transient & used),
        )

    def with_example(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, synthetic: bool) -> Program:
        """Return this program with other example inputs; their structure must be that of the graph's placeholders."""
        return replace(self, example=Example(args, dict(kwargs), synthetic))

    def noted(self, note: str) -> Program:
        """Return this program with one more note."""
        return replace(self, notes=(*self.notes, note))

    def named(self, names: Names | None) -> Program:
        """Return this program with names for its inputs and outputs in files."""
        return replace(self, names=names)

    def applied(self, spec: str) -> Program:
        """Return this program with one more pass in its history."""
        return replace(self, history=(*self.history, spec))

    @property
    def provenance(self) -> dict[str, Any]:
        """What a file should keep besides graph, state and example: `passes`, `notes`, `synthetic`, `names`."""
        kept = {"passes": list(self.history), "notes": list(self.notes), "synthetic": self.example.synthetic}
        if self.names is not None:
            kept["names"] = {"inputs": dict(self.names.inputs), "outputs": list(self.names.outputs)}
        return kept

    def with_provenance(self, provenance: Mapping[str, Any]) -> Program:
        """Return this program with what a file kept of it; the opposite of `provenance`."""
        names = provenance.get("names")
        return replace(
            self,
            history=tuple(provenance.get("passes", ())),
            notes=tuple(provenance.get("notes", ())),
            example=replace(self.example, synthetic=bool(provenance.get("synthetic", False))),
            names=None if names is None else Names(dict(names["inputs"]), tuple(names["outputs"])),
        )

    def copy_graph(self) -> fx.Graph:
        """Return a copy of the graph that may be edited, with the same node names and metadata."""
        return copied_graph(self.graph)

    def node(self, name: str) -> fx.Node:
        """Return the node called `name`.

        Raises:
            KeyError: there is none.
        """
        found: fx.Node | None = next((node for node in self.graph.nodes if node.name == name), None)
        if found is None:
            raise KeyError(name)
        return found

    @property
    def placeholders(self) -> list[fx.Node]:
        """The input nodes, in the order of `example.leaves()`."""
        return [node for node in self.graph.nodes if node.op == "placeholder"]

    @property
    def dynamic_batch(self) -> bool:
        """Whether the first dimension of some input is symbolic."""
        return self.batch_symbol is not None

    @property
    def batch_symbol(self) -> Any | None:
        """The sympy symbol of the batch dimension, or None when the batch size is fixed."""
        return next((sizes[0] for node in self.placeholders if 0 in (sizes := dynamic_sizes(node))), None)

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """The masks in the graph: parameter name to a boolean tensor of its shape, True where the weight is kept."""
        return MappingProxyType(self._chosen(zero=True))

    @property
    def frozen(self) -> Mapping[str, Tensor]:
        """The frozen weights: parameter name to a boolean tensor of its shape, True where the weight is trained.

        Elsewhere the graph computes with a fixed value instead (`sparsify.freezing`).
        """
        return MappingProxyType(self._chosen(zero=False))

    def _chosen(self, *, zero: bool) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for node in mask_nodes(self.graph):
            mask, weight = (str(value.target) for value in node.all_input_nodes[:2])
            if weight in self.parameters and isinstance(node.args[2], fx.Node) is not zero:
                found[weight] = self.buffers[mask]
        return found

    def __repr__(self) -> str:
        """Say in one line what it is: a console shows this, and tensors would fill it."""
        parts = [
            plural(sum(value.numel() for value in self.parameters.values()), "parameter"),
            plural(len(self.placeholders), "input"),
            f"{'dynamic' if self.dynamic_batch else 'fixed'} batch",
            *([plural(len(self.masks), "mask")] if self.masks else []),
        ]
        return f"<Program: {', '.join(parts)}>"

    def __str__(self) -> str:
        """Return the canonical text of the program, one line for each node; the dynamic batch size is `batch`."""
        return self.spelled(text(self.graph))

    def spelled(self, text: str) -> str:
        """Return a text about shapes with names for symbols: `batch`, and `size`, `size_2` for other dynamic sizes."""
        for symbol, name in self._size_names.items():
            text = re.sub(rf"\b{symbol}\b", name, text)
        return text

    @cached_property
    def _size_names(self) -> Mapping[str, str]:
        batch = self.batch_symbol
        found = [size for node in self.placeholders for size in dynamic_sizes(node).values() if size.is_Symbol]
        others = [str(symbol) for symbol in dict.fromkeys(found) if symbol != batch]
        names = {symbol: f"size_{number}" if number > 1 else "size" for number, symbol in enumerate(others, 1)}
        return names if batch is None else {str(batch): "batch", **names}


def check_program(value: object) -> None:
    """Check that somebody gave a program, and not the module itself.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(value, Program):
        raise UsageError(f"A program is needed, not {type(value).__name__}: sparsify.capture makes one of a module.")


def dynamic_sizes(node: fx.Node) -> dict[int, Any]:
    """Return the dimensions of an input whose size is symbolic, with the sympy expression of each."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return {}
    sizes: list[Any] = list(value.shape)
    expressions = {dim: size.node.expr for dim, size in enumerate(sizes) if isinstance(size, torch.SymInt)}
    return {dim: found for dim, found in expressions.items() if not found.is_number}  # a number: it was given up


def _as_parameter(value: Tensor) -> nn.Parameter:
    return value if isinstance(value, nn.Parameter) else nn.Parameter(value, requires_grad=value.requires_grad)
