"""What is proven of a random network: shrink(mask(P)) computes what mask(P) computes, whatever is masked."""

import functools
from collections.abc import Iterator, Mapping, Sequence

import torch
from helpers import random_attention, random_layers, random_steps  # noqa: F401 -- they register the operations
from helpers.axes import removable
from helpers.random_graphs import Spec
from torch import Tensor, fx

import sparsify as sp
from sparsify import verify
from sparsify.axes import Axes, axes
from sparsify.axes.axis import leaves
from sparsify.axes.resize import Keep, Resizing, resized
from sparsify.groups import Group, Member, groups_of
from sparsify.masking import masked
from sparsify.program import Program
from sparsify.pruning.reference import member_masks, reference_outputs
from sparsify.shapes import propagate_shapes

__all__ = ["assert_theorem"]


def assert_theorem(spec: Spec, rounds: int = 1) -> None:
    """Capture a network once, and prune it in several ways."""
    net, inputs, _ = spec.build()
    typed = axes(sp.capture(net, inputs))
    free = removable(groups_of(typed))
    generator = torch.Generator().manual_seed(spec.seed)
    assert_unknown_is_frozen(typed)
    for _ in range(rounds):
        for chosen in _subsets([group for group in free if group.exact], generator):
            assert_shrunk(typed, random_keep(chosen, generator))
        if not all(group.exact for group in free):
            for chosen in _subsets(free, generator):
                assert_resized(typed, random_keep(chosen, generator))
        some = [group for group in free if _chance(generator, 0.7)]
        for masks in (random_members(typed, some, generator), random_masks(typed.program, generator)):
            assert_still_exact(typed.program, masks)


def assert_unknown_is_frozen(typed: Axes) -> None:
    """Nothing that an operator without a rule reads or makes can lose an index."""
    names = {name for nodes in typed.unknown.values() for name in nodes}
    for node in typed.program.graph.nodes:
        if node.name in names:
            touched: list[fx.Node] = [node, *node.all_input_nodes]
            dims = [axis for value in touched for axis in typed.dims[value]]
            assert all(leaf.frozen for axis in dims for leaf in leaves(axis)), f"{node} touches what is free"


def assert_shrunk(typed: Axes, keep: Keep) -> None:
    """Mask, shrink: everything that is masked is gone, and nothing else; the function is the same."""
    before = masked(typed.program, member_masks(typed, keep))
    after = sp.run(before, ["shrink"]).program
    assert not after.masks
    resizing = Resizing(typed, keep)
    assert after.parameters.keys() == typed.program.parameters.keys()
    for name, value in typed.program.parameters.items():
        assert torch.equal(after.parameters[name], resizing.state(name, value)), name
    assert_equal(typed.program, functools.partial(verify.outputs, before), after)


def assert_resized(typed: Axes, keep: Keep) -> None:
    """Take indices out where masking is something else: the result is the reference's."""
    small = resized(typed, keep)
    propagate_shapes(small)
    assert_equal(typed.program, functools.partial(reference_outputs, typed, keep), small)


def assert_still_exact(program: Program, masks: Mapping[str, Tensor]) -> None:
    """Shrink a program with any masks: the pass manager raises if the function changes."""
    before = masked(program, masks)
    if all(value.isfinite().all() for value in verify.outputs(before)):
        sp.run(before, ["shrink"])


def assert_equal(program: Program, truth, small: Program) -> None:
    """Compare what two programs compute at two batch sizes."""
    for inputs in verify.trial_inputs(program):
        for expected, found in zip(truth(leaves=inputs), verify.outputs(small, inputs), strict=True):
            gap = verify.difference(expected, found)
            assert gap <= verify.tolerance(expected), f"the outputs are off by {gap:.2g}"


def random_keep(chosen: Sequence[Group], generator: torch.Generator) -> Keep:
    """Return for every group what stays of it: not all, and not less than must stay."""
    keep = {}
    for group in chosen:
        count = int(torch.randint(group.least, group.size, (), generator=generator))
        keep[group.axis] = torch.zeros(group.size, dtype=torch.bool)
        keep[group.axis][torch.randperm(group.size, generator=generator)[:count]] = True
    return keep


def _subsets(groups: Sequence[Group], generator: torch.Generator) -> Iterator[list[Group]]:
    """Yield all groups, one of them, and some of them."""
    if groups:
        yield list(groups)
    if len(groups) > 1:
        yield [groups[int(torch.randint(len(groups), (), generator=generator))]]
    if len(groups) > 2:
        some = torch.rand(len(groups), generator=generator) < 0.5
        yield [group for group, chosen in zip(groups, some, strict=True) if chosen]


def random_members(typed: Axes, free: Sequence[Group], generator: torch.Generator) -> dict[str, Tensor]:
    """Mask indices of groups in some of their members only."""
    sides = (
        lambda member, weight: weight.ndim > 1 and member.dim == 0,  # weights that make them
        lambda member, weight: weight.ndim > 1 and member.dim > 0,  # weights that use them
        lambda member, weight: member.dim == 0,  # biases too
        lambda member, weight: _chance(generator, 0.7),
    )
    chosen = sides[int(torch.randint(len(sides), (), generator=generator))]
    masks: dict[str, Tensor] = {}
    for group, kept in zip(free, random_keep(free, generator).values(), strict=True):
        for member in group.members:
            weight = typed.program.parameters[member.parameter]
            if chosen(member, weight):
                old = masks.get(member.parameter, torch.ones(weight.shape, dtype=torch.bool))
                masks[member.parameter] = old & _mask(member, kept, weight)
    return masks


def _chance(generator: torch.Generator, probability: float) -> bool:
    return bool(torch.rand((), generator=generator) < probability)


def _mask(member: Member, kept: Tensor, weight: Tensor) -> Tensor:
    """Return a mask of a parameter without the positions that belong to an index that goes."""
    stays = torch.ones(weight.shape[member.dim], dtype=torch.bool)
    for row in member.index:
        stays &= kept[row] | (row < 0)
    shape = [1] * weight.ndim
    shape[member.dim] = -1
    return stays.view(shape).expand(weight.shape).clone()


def random_masks(program: Program, generator: torch.Generator) -> dict[str, Tensor]:
    """Mask single weights, or whole rows along some dimension, of some parameters."""
    masks = {}
    for name, value in program.parameters.items():
        shape = list(value.shape)
        if _chance(generator, 0.5):  # a row that is masked is masked everywhere
            dim = int(torch.randint(value.ndim, (), generator=generator)) if value.ndim else 0
            shape = [size if index == dim else 1 for index, size in enumerate(shape)]
        if _chance(generator, 0.7):
            masks[name] = (torch.rand(shape, generator=generator) < 0.7).expand(value.shape).clone()
    return masks
