"""Watching: run a program with eyes on some of its operators, or with hands on what they get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch import Tensor, fx, nn

from sparsify.layers import Layer
from sparsify.program import Program

__all__ = ["Rows", "Watched"]

Look: TypeAlias = Callable[..., None]
Change: TypeAlias = Callable[..., Tensor]
Rows: TypeAlias = Tensor | list[Tensor]


class Watched:
    """A program in evaluation mode that tells what happens inside, or does something else there.

    It shares the program's tensors: take gradients with `torch.autograd.grad`, which writes nothing.

    Args:
        program: what runs.
    """

    def __init__(self, program: Program) -> None:
        self._model = program.module(copy=False)
        self._graph = self._model.graph
        self._nodes: dict[str, fx.Node] = {node.name: node for node in self._graph.nodes}
        self._now: dict[tuple[fx.Node | None, fx.Node], fx.Node] = {}
        self._count = 0

    def look(self, node: fx.Node, look: Look) -> None:
        """Have a function called with the arguments of a node of the program before the node runs."""
        if (found := self._nodes.get(node.name)) is not None:
            with self._graph.inserting_before(found):
                self._call(look, found.args)

    def rows(self, layer: Layer, look: Callable[[Rows], None]) -> None:
        """Have a function called with the rows that the matrices of a layer multiply; not for hidden states."""
        if (rows := layer.rows) is not None:
            self.look(layer.node, lambda *args: look(rows(args)))

    def look_at(self, values: Sequence[fx.Node], look: Look) -> None:
        """Have a function called with some values, as soon as the last of them is there."""
        found = [self._evaluated(node) for node in values]
        order = {node: index for index, node in enumerate(self._graph.nodes)}
        with self._graph.inserting_after(max(found, key=order.__getitem__)):
            self._call(look, tuple(found))

    def change(self, node: fx.Node, argument: fx.Node, change: Change) -> None:
        """Have a node, and no other, get a changed argument; changes of one argument follow each other."""
        if (found := self._nodes.get(node.name)) is None:
            return
        value = self._evaluated(argument)
        before = self._now.get((found, value), self._now.get((None, value), value))
        with self._graph.inserting_before(found):
            after = self._call(change, (before,))
        found.replace_input_with(before, after)
        self._now[found, value] = after

    def result(self, node: fx.Node, change: Change, *others: fx.Node) -> None:
        """Have everything that reads a node get a changed value of it.

        Args:
            node: whose value it is.
            change: gets the value, and those of the others.
            others: nodes that come before it.
        """
        value = self._evaluated(node)
        before = self._now.get((None, value), value)
        with self._graph.inserting_after(before):
            known = [self._evaluated(other) for other in others]
            after = self._call(change, (before, *(self._now.get((None, other), other) for other in known)))
        before.replace_all_uses_with(after, delete_user_cb=lambda user: user is not after)
        self._now[None, value] = after

    def ready(self) -> nn.Module:
        """Return the model, which is called like the original one."""
        self._model.recompile()
        return self._model

    def _call(self, function: Callable[..., Any], args: Sequence[Any]) -> fx.Node:
        name = f"watch_{self._count}"
        self._count += 1
        self._model.add_module(name, _Watcher(function))
        called: fx.Node = self._graph.call_module(name, tuple(args))
        return called

    def _evaluated(self, node: fx.Node) -> fx.Node:
        """Return what stands for a node in the evaluation form, which lacks noise such as stochastic depth."""
        if node.name in self._nodes:
            return self._nodes[node.name]
        user = next(user for user in node.users if user.name in self._nodes and node in user.args)
        found: Any = self._nodes[user.name].args[user.args.index(node)]
        assert isinstance(found, fx.Node)
        return found


class _Watcher(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *values: Any) -> Any:
        return self._function(*values)
