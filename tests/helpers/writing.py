"""What the tests of writing a program back into its model share: models, smaller programs, and looking closely."""

import copy
import functools

import torch
from helpers import zoo
from torch import nn
from torch.utils import _pytree as pytree

from sparsify import verify
from sparsify.axes import axes
from sparsify.axes.resize import resized
from sparsify.capture import capture
from sparsify.groups import groups_of
from sparsify.shapes import propagate_shapes


@functools.cache
def _captured(name):
    model, args, kwargs = {**zoo.FAMILIES, **zoo.NETWORKS}[name]()
    found = axes(capture(model, args, kwargs))
    return model, found, [group for group in groups_of(found) if not group.frozen and group.size > group.least]


def zoo_entry(name):
    """Return a model of the zoo that may be changed, its axes, and its groups that may get smaller."""
    model, found, groups = _captured(name)
    return copy.deepcopy(model), found, groups


def captured(model, *args, **kwargs):
    """Return the axes of a model, and its groups that may get smaller."""
    found = axes(capture(model, args, kwargs))
    return found, [group for group in groups_of(found) if not group.frozen and group.size > group.least]


def halved(found, groups, half=lambda group: group.size // 2):
    """Return the program with a random half of the indices of every group."""
    generator = torch.Generator().manual_seed(0)
    keep = {}
    for group in groups:
        chosen = torch.randperm(group.size, generator=generator)[: max(group.least, half(group))]
        keep[group.axis] = torch.zeros(group.size, dtype=torch.bool).index_fill(0, chosen, True)
    small = resized(found, keep)
    propagate_shapes(small)
    return small


def differences(program, model):
    """Return how much a model's outputs differ from a program's, relative to what rounding explains, by batch size."""
    structure = pytree.tree_structure((program.example.args, dict(program.example.kwargs)))
    found = []
    for leaves in verify.trial_inputs(program):
        args, kwargs = verify.copied(pytree.tree_unflatten(leaves, structure))
        with torch.no_grad():
            pairs = list(zip(verify.outputs(program, leaves), pytree.tree_leaves(model(*args, **kwargs)), strict=True))
        found.append(max(verify.difference(a, b) / max(verify.tolerance(a), 1e-12) for a, b in pairs))
    return found


def look(model):
    """Return everything that a model holds: each thing itself, so that nothing takes its place, and its content."""
    seen = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for holder in (vars(module), module._parameters, module._buffers):
            for key, value in holder.items():
                seen[path, id(holder), key] = (value, _content(value))
    return seen


def _content(value):
    if isinstance(value, torch.Tensor):
        return value.detach().clone(), value.requires_grad
    if type(value).__name__.endswith("Config"):
        return {key: repr(item) for key, item in vars(value).items()}
    return None if isinstance(value, (nn.Module, dict)) else repr(value)


def is_untouched(before, model):
    """Whether a model holds what it held."""
    after = look(model)
    return before.keys() == after.keys() and all(
        value is after[key][0] and _equal(content, after[key][1]) for key, (value, content) in before.items()
    )


def _equal(a, b):
    if isinstance(a, tuple):
        return torch.equal(a[0], b[0]) and a[1] == b[1]
    return a == b
