"""Training and evaluation form of a graph, and the module that switches between them.

A graph is captured in training mode. Its evaluation form is derived: flags of normalisation and dropout are cleared,
step counters stop, and multiplicative noise (stochastic depth) is taken out. Capture compares the evaluation form
with the model's own evaluation output bit for bit, so a rule that does not fit a model is never used on it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from sparsify import aliasing
from sparsify.graph import copied_graph, mask_nodes

__all__ = ["ProgramModule", "assign", "evaluation_graph", "has_noise", "in_mode", "switch_on_training"]

aten = torch.ops.aten

_FLAGS = ("training", "train", "use_input_stats")  # the schema's names of the argument that says "this is training"
_RANDOM = torch.Tag.nondeterministic_seeded


class ProgramModule(fx.GraphModule):
    """A program as a `torch.nn.Module`; made by `Program.module`."""

    def __init__(
        self,
        training_graph: fx.Graph,
        state: Mapping[str, Tensor],
        *,
        aliases: Mapping[str, str],
        transient: frozenset[str],
        training: bool,
        copy: bool,
    ) -> None:
        changing = _written_state(training_graph)  # never shared: running the module must not change the program
        own = {name: _own(value) if copy or name in changing else value for name, value in state.items()}
        super().__init__(own, _form(training_graph, training), "Program")
        self.meta["program"] = (training_graph, aliases, transient)
        self.meta["form"] = training
        _order_modules(self, own)
        for alias, name in aliases.items():
            assign(self, alias, own[name])
        for name in [*transient, *(alias for alias, name in aliases.items() if name in transient)]:
            path, _, leaf = name.rpartition(".")
            self.get_submodule(path)._non_persistent_buffers_set.add(leaf)
        for name, parameter in self.named_parameters():
            parameter.__dict__["sparsify_name"] = name  # so that what sees only the optimizer knows it
        self.train(training)

    def train(self, mode: bool = True) -> ProgramModule:
        """Switch to training (`mode`) or evaluation, like `torch.nn.Module.train`."""
        if self.meta.get("form", mode) != mode:
            self._take_form(mode)
        super().train(mode)
        return self

    def rewrite(self, change: Callable[[fx.Graph], None]) -> None:
        """Have the graph's training form changed in place, now and whenever the module switches to it."""
        self.meta["rewrite"] = change
        self._take_form(self.training)

    def _take_form(self, training: bool) -> None:
        graph = _form(self.meta["program"][0], training)
        if training and "rewrite" in self.meta:
            self.meta["rewrite"](graph)
        self.graph = graph
        self.meta["form"] = training

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> ProgramModule:
        """Copy with tensors of its own, tied parameters still tied."""
        graph, aliases, transient = self.meta["program"]
        tensors = {
            **dict(self.named_parameters(remove_duplicate=False)),
            **dict(self.named_buffers(remove_duplicate=False)),
        }
        with torch.inference_mode(False):  # as in `_own`
            state = {name: copy.deepcopy(value, memo) for name, value in tensors.items() if name not in aliases}
        made = ProgramModule(graph, state, aliases=aliases, transient=transient, training=self.training, copy=False)
        made.meta.update({key: value for key, value in self.meta.items() if key not in made.meta})
        return made


def _form(training_graph: fx.Graph, training: bool) -> fx.Graph:
    return copied_graph(training_graph) if training else _one_at_a_time(evaluation_graph(training_graph))


def _one_at_a_time(graph: fx.Graph) -> fx.Graph:
    """Make each masked weight where it is read first, in place: all at once would be a second copy of the weights."""
    order = {node: place for place, node in enumerate(graph.nodes)}
    for node in mask_nodes(graph):
        if node.users:
            min(node.users, key=order.__getitem__).prepend(node)
    return graph


def _written_state(graph: fx.Graph) -> set[str]:
    base = aliasing.bases(graph)
    roots = {base[target] for node in graph.nodes for target in aliasing.written(node)}
    return {str(root.target) for root in roots if root.op == "get_attr"}


def _own(value: Tensor) -> Tensor:
    with torch.inference_mode(False):  # tensors made in that mode never tell whether they changed: kernels must know
        data = value.detach().clone()
        return nn.Parameter(data, requires_grad=value.requires_grad) if isinstance(value, nn.Parameter) else data


def _order_modules(root: nn.Module, names: Iterable[str]) -> None:
    """Put modules and parameters in the order of `names`: a tied parameter is listed under its first name only."""
    for name in reversed(list(names)):
        parent = root
        *path, leaf = name.split(".")
        for part in path:
            parent._modules = {part: parent._modules.pop(part), **parent._modules}
            parent = parent.get_submodule(part)
        if leaf in parent._parameters:
            parent._parameters = {leaf: parent._parameters.pop(leaf), **parent._parameters}


def assign(root: nn.Module, name: str, value: Tensor) -> None:
    """Give a module a parameter or buffer of a dotted name; modules on the way are made."""
    *path, leaf = name.split(".")
    for part in path:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    if isinstance(value, nn.Parameter):
        root.register_parameter(leaf, value)
    else:
        root.register_buffer(leaf, value)


def evaluation_graph(training_graph: fx.Graph) -> fx.Graph:
    """Return a copy of the graph that computes what the model computes after `.eval()`."""
    graph = copied_graph(training_graph)
    for node in list(graph.nodes):
        if not isinstance(node.target, torch._ops.OpOverload):
            continue
        _clear_flags(node)
        if _is_counter(node):
            graph.erase_node(node)
    _take_out_noise(graph)
    return graph


def switch_on_training(graph: fx.Graph) -> bool:
    """Turn a graph that was exported in evaluation mode into its training form, in place, as far as flags go.

    Returns:
        Whether anything was switched on; a graph in which some flag is set is in training form already.
    """
    flags = [(node, *flag) for node in graph.nodes for flag in _flags(node)]
    if any(_argument(node, index, name) for node, index, name in flags):
        return False
    for node, index, name in flags:
        _set_argument(node, index, name, True)
    return bool(flags)


def has_noise(graph: fx.Graph) -> bool:
    """Whether the graph computes something random from shapes alone, which its evaluation form leaves out."""
    return bool(_noise_nodes(graph))


def _clear_flags(node: fx.Node) -> None:
    for index, name in _flags(node):
        _set_argument(node, index, name, False)
    for index, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
        if argument.name == "dropout_p":
            _set_argument(node, index, argument.name, 0.0)


def _flags(node: fx.Node) -> list[tuple[int, str]]:
    """Return place and name of the arguments that say "this is training" to an operator."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return []
    if node.target in (aten.batch_norm.default, aten.instance_norm.default) and node.args[3] is None:
        return []  # without running statistics it normalises by what it sees in both modes
    return [
        (index, argument.name)
        for index, argument in enumerate(node.target._schema.arguments)
        if argument.name in _FLAGS and str(argument.type) == "bool"
    ]


def _argument(node: fx.Node, index: int, name: str) -> Any:
    return node.args[index] if index < len(node.args) else node.kwargs.get(name)


def _set_argument(node: fx.Node, index: int, name: str, value: bool | float) -> None:
    if name in node.kwargs:
        node.update_kwarg(name, value)
    elif index < len(node.args):
        node.update_arg(index, value)


def _is_counter(node: fx.Node) -> bool:
    """`num_batches_tracked.add_(1)`, which nothing reads: the only state that a mode without training leaves alone."""
    first = node.args[0] if node.args else None
    return (
        node.target is aten.add_.Tensor
        and isinstance(first, fx.Node)
        and first.op == "get_attr"
        and str(first.target).endswith("num_batches_tracked")
        and not node.users
    )


def _take_out_noise(graph: fx.Graph) -> None:
    """Replace `x / keep * noise` and `x * noise` by `x`, where the noise depends on no value, only on shapes."""
    noise = _noise_nodes(graph)
    for node in list(graph.nodes):
        if node in noise or node.target not in (aten.mul.Tensor, aten.add.Tensor):
            continue
        factors = [argument for argument in node.args[:2] if isinstance(argument, fx.Node)]
        silent = [factor for factor in factors if factor in noise]
        if len(silent) != 1 or len(factors) != 2:
            continue
        signal = factors[0] if silent[0] is factors[1] else factors[1]
        if node.target is aten.mul.Tensor and _divides_by_constant(signal):
            signal = signal.args[0]  # type: ignore[assignment]
        node.replace_all_uses_with(signal)
    for node in reversed(list(graph.nodes)):
        if not node.users and (node in noise or (node.op == "call_function" and not node.is_impure())):
            graph.erase_node(node)


def _divides_by_constant(node: fx.Node) -> bool:
    return node.target in (aten.div.Tensor, aten.div.Scalar) and not isinstance(node.args[1], fx.Node)


def _noise_nodes(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes whose value is random and depends on the model's inputs and state only through shapes."""
    shape_only: set[fx.Node] = set()
    random: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        inputs = node.all_input_nodes
        tensors = [source for source in inputs if isinstance(source.meta.get("val"), (Tensor, list, tuple))]
        target = node.target
        if (
            not isinstance(node.meta.get("val"), (Tensor, list, tuple))
            or _is_factory(target)
            or all(source in shape_only for source in tensors)
        ):
            shape_only.add(node)
        else:
            continue
        is_random = isinstance(target, torch._ops.OpOverload) and _RANDOM in target.tags
        if is_random or any(source in random for source in inputs):
            random.add(node)
    return random


def _is_factory(target: Any) -> bool:
    """Ops that read the shape of a tensor and never its values."""
    name = target._schema.name if isinstance(target, torch._ops.OpOverload) else ""
    return name.startswith("aten::new_") or name.endswith("_like")


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Put a model into training or evaluation mode; afterwards every module is in the mode that it was in."""
    before = {module: module.training for module in model.modules()}
    try:
        model.train(training)
        yield
    finally:
        for module, was in before.items():
            module.training = was
