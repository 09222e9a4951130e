"""Compact training: of masked and frozen weights nothing is kept but the values that are trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch._subclasses import FakeTensorMode

from sparsify.errors import OptionError
from sparsify.graph import mask_nodes
from sparsify.kernels.parameter import parameter
from sparsify.mask_updates import MaskUpdate
from sparsify.mask_updates.static import Static
from sparsify.program import Program
from sparsify.shapes import fake, fake_mode
from sparsify.training.places import Base, Places, scattered
from sparsify.training.recomputation import Recomputation

__all__ = ["CompactTraining"]


class CompactTraining:
    """Trains the vectors of the kept values; their gradients and optimizer slots are vectors, too.

    Right before each use the graph makes the whole weight, and it is gone behind it: for the backward pass it is made
    again, and its gradient lives only until the values for the vector are taken out. All values are those of
    `SparseTraining`, bit for bit on a CPU, as long as nothing adds up a gradient over all its values: a norm of vectors
    has other roundings than one with the zeros in between. It holds no whole weights.

    Args:
        program: with masks or frozen weights.
        rule: none, or the one that leaves masks as they are.
        seed: is not used.
        audit: there is nothing to check: what is pruned is not there.

    Attributes:
        updates, exchanges: none, as for masks that stay.
        emptied: the weights that have nothing left.
        density: which share of the weights that have masks is kept; 1 where nothing has one.
        itop: the same share.

    Raises:
        OptionError: the rule changes masks, or nothing is masked or frozen.
    """

    def __init__(self, program: Program, rule: MaskUpdate | None, seed: int, *, audit: bool = False) -> None:
        if rule is not None and not isinstance(rule, Static):
            raise OptionError(
                f"Training: compact=yes keeps no gradients of pruned weights and cannot change masks, as the rule "
                f"{type(rule).__name__} does. Leave it out, or take dst:method=static."
            )
        if not program.masks and not program.frozen:
            raise OptionError(
                "Training: with compact=yes only the kept values of masked and frozen weights are trained, but no "
                "weight is masked or frozen. Put a pass before it that makes masks, such as weight-prune, or leave it "
                "out."
            )
        self.updates = 0
        self.exchanges: list[dict[str, Any]] = []
        masks = {name: mask for name, mask in program.masks.items() if program.parameters[name].requires_grad}
        kept = {name: int(mask.sum()) for name, mask in masks.items()}
        self.masks = frozenset(masks)
        self.emptied = [name for name, count in kept.items() if not count]
        self.itop = sum(kept.values()) / max(1, sum(mask.numel() for mask in masks.values()))
        self.density = self.itop if masks else 1.0
        self._recomputation = Recomputation()
        self._whole: dict[str, Callable[[Mapping[str, Tensor]], Tensor]] = {}
        self._compact: Program | None = self._compacted(program)
        self._given = _without_values(program)

    def module(self, make: Callable[[Program], nn.Module]) -> nn.Module:
        """Return the module that is trained; its vectors have the names of the weights. It can be made once."""
        assert self._compact is not None
        module = make(self._compact)
        self._compact = None
        cast(Any, module).meta["whole"] = self._whole
        self._device = next(module.parameters()).device.type
        return module

    def attach(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Begin to train: nothing need be kept zero."""

    def forward(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass whose gradients are wanted."""
        return self._recomputation.active(self._device)

    def looks(self, step: int, steps: int) -> bool:
        """Whether a rule looks at the gradients of a step."""
        return False

    def before_step(self, step: int, steps: int, rate: float) -> bool:
        """Return whether an update of the masks takes the place of a step."""
        return False

    def mask_gradients(self) -> None:
        """Make the gradients of pruned weights zero: there are none."""

    def after_step(self, step: int, steps: int, rate: float) -> None:
        """Update the masks: they stay."""

    def result(self, module: nn.Module) -> Program:
        """Return the program with what a module has learned, weights and masks whole again."""
        return self._given.with_state(module)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs besides the module and the optimizer: nothing."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""

    def _compacted(self, program: Program) -> Program:
        """Return a program that makes each masked or frozen weight where it is used."""
        graph, mode = program.copy_graph(), fake_mode(program) or FakeTensorMode()
        parameters, whole = dict(program.parameters), dict[str, Callable[[Mapping[str, Tensor]], Tensor]]()
        for given, node in zip(mask_nodes(program.graph), mask_nodes(graph), strict=True):
            mask, name = (str(value.target) for value in given.all_input_nodes[:2])
            if mask not in program.buffers or name not in program.parameters:
                continue
            weight = program.parameters[name]
            places, base = Places.of(program.buffers[mask], weight), _base(given.args[2], name, program)
            vector = places.gather(weight.detach())
            parameters[name] = nn.Parameter(vector, requires_grad=weight.requires_grad)
            whole[name], whole[mask] = _whole(name, places), _mask(places)
            self._made_before_use(node, _maker(places, base, self._recomputation), fake(vector, mode))
        after = replace(program, parameters=parameters).with_graph(graph)
        gone = {name: value for name, value in program.buffers.items() if name not in after.buffers}
        fixed = {name: _constant(value) for name, value in gone.items() if name not in whole}
        self._whole = {**fixed, **whole}
        return after

    def _made_before_use(self, masked: fx.Node, make: Callable[[Tensor], Tensor], vector: Tensor) -> None:
        """Put a node that makes a weight before each that uses it, so that it is let go of behind each."""
        weight, markers = masked.all_input_nodes[1], [user for user in masked.users if user.target is parameter]
        weight.meta["val"], ends = vector, [masked, *markers]
        pairs = [(end, user) for end in (*ends, weight) for user in end.users if user not in ends]
        for end, user in pairs:
            with masked.graph.inserting_before(user):
                made = masked.graph.call_function(make, (weight,))
            made.meta["val"] = masked.meta["val"]
            user.replace_input_with(end, made)


def _maker(places: Places, base: Base | None, recomputation: Recomputation) -> Callable[[Tensor], Tensor]:
    """Return the function that makes a whole weight of its vector."""

    def whole_weight(vector: Tensor) -> Tensor:
        made = scattered(vector, places, base)
        recomputation.note(made, lambda: places.scatter(vector, base))
        return made

    return whole_weight


def _base(node: Any, name: str, program: Program) -> Base | None:
    """Return what computes the values of the places that are not trained, or None where they are zeros."""
    if not isinstance(node, fx.Node):
        return None
    order, pending = set[fx.Node](), [node]
    while pending:
        order.add(now := pending.pop())
        pending += now.all_input_nodes
    nodes = [one for one in program.graph.nodes if one in order]
    if not all(one.op == "call_function" or one.target in program.buffers for one in nodes):
        raise OptionError(
            f"Training: compact=yes must make the frozen values of {name} again, but they are not made of buffers "
            "alone. Leave it out."
        )
    state = {one: program.buffers[str(one.target)] for one in nodes if one.op != "call_function"}

    def compute() -> Tensor:
        known: dict[fx.Node, Any] = dict(state)
        for one in nodes:
            if one not in known:
                args, kwargs = fx.map_arg((one.args, one.kwargs), known.__getitem__)
                known[one] = one.target(*args, **kwargs)
        found: Tensor = known[node]
        return found

    return compute


def _whole(name: str, places: Places) -> Callable[[Mapping[str, Tensor]], Tensor]:
    return lambda state: places.scatter(state[name].detach())


def _mask(places: Places) -> Callable[[Mapping[str, Tensor]], Tensor]:
    return lambda state: places.mask


def _constant(value: Tensor) -> Callable[[Mapping[str, Tensor]], Tensor]:
    return lambda state: value.clone()


def _without_values(program: Program) -> Program:
    """Return a program of the same form that holds on to no weights and masks."""
    shapes = {
        name: nn.Parameter(torch.empty_like(value, device="meta"), requires_grad=value.requires_grad)
        for name, value in program.parameters.items()
    }
    masks = {str(node.all_input_nodes[0].target) for node in mask_nodes(program.graph)}
    buffers = {
        name: torch.empty_like(value, device="meta") if name in masks else value
        for name, value in program.buffers.items()
    }
    return replace(program, parameters=shapes, buffers=buffers)
