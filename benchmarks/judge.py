"""What a pruned network must compute, for whoever pruned it. Does nothing on its own.

All that is asked of a tool is which weights it kept. The truth is made of the original module: the other weights are
zero in it. Removing a channel is not the same as a zero where the number of channels counts, so there are two more
truths: norms that run on the kept channels alone, and the reference that sparsify holds itself to, in which every
operator does that (a mean over channels, a softmax over experts). A network that computes one of them is right.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sparsify.axes import Axes, Axis
from sparsify.axes.resize import Keep
from sparsify.pruning.reference import member_masks, reference_outputs
from sparsify.verify import copied, difference

Kept = Mapping[str, Tensor]  # by parameter name, of the parameter's shape: True where the weight stays

TOLERANCE = 1e-4  # relative; float32 sums in another order are off by 1e-6, a wrong channel by 1e-2 or more
MASKED, COUNTED = "equal to masked", "equal, norms count what is kept"
REFERENCE, DIFFERS = "equal to reference", "differs"


def judge(model: nn.Module, inputs: Any, kept: Kept, outputs: Sequence[Any], found: Axes | None) -> dict[str, Any]:
    """Return which truth the outputs of a pruned network are equal to, and how far they are from the nearest one.

    Args:
        model: the original.
        inputs: its positional and keyword inputs.
        kept: what was kept of parameters that lost something.
        outputs: of the pruned network for these inputs, as a flat list.
        found: the axes of the original's program, if there are any.
    """
    truths: dict[str, Callable[[], Sequence[Any] | None]] = {
        MASKED: lambda: run(_masked(model, kept), inputs),
        COUNTED: lambda: run(_counted(model, kept), inputs),
        REFERENCE: lambda: _reference(found, kept, inputs),
    }
    nearest = float("inf")
    for name, truth in truths.items():
        expected = truth()
        if expected is None:
            continue
        gap = _gap(expected, outputs)
        if gap <= TOLERANCE:
            return {"verdict": name, "gap": gap}
        nearest = min(nearest, gap)
    return {"verdict": DIFFERS, "gap": nearest}


def run(model: nn.Module, inputs: Any) -> list[Any]:
    """Return the flat outputs of a module."""
    args, kwargs = copied(inputs)
    with torch.no_grad():
        return pytree.tree_leaves(model(*args, **kwargs))


def same_types(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Return whether two lists of outputs have the same shapes and types."""
    kinds = [[(v.shape, v.dtype) if isinstance(v, Tensor) else type(v) for v in values] for values in (one, other)]
    return kinds[0] == kinds[1]


def _gap(one: Sequence[Any], other: Sequence[Any]) -> float:
    return max((difference(a, b) for a, b in zip(one, other, strict=True)), default=0.0)


def _masked(model: nn.Module, kept: Kept) -> nn.Module:
    """Return a copy in which the weights that are gone are zero."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for name, value in model.named_parameters(remove_duplicate=False):
            if name in kept:
                value.mul_(kept[name].to(value.dtype))
    return model


class _OnKept(nn.Module):
    """Runs a norm on the kept channels and puts its result back between zeros."""

    def __init__(self, norm: nn.Module, kept: Tensor) -> None:
        super().__init__()
        self.norm = copy.deepcopy(norm)
        self.index = kept.nonzero().flatten()
        channels_first = getattr(norm, "data_format", "") == "channels_first"  # ConvNeXt's
        self.dim = 1 if channels_first or isinstance(norm, nn.GroupNorm) else -1
        for name, value in list(norm.named_parameters(recurse=False)):
            setattr(self.norm, name, nn.Parameter(value.detach()[self.index]))
        if isinstance(norm, nn.LayerNorm):
            self.norm.normalized_shape = (len(self.index),)
        if isinstance(norm, nn.GroupNorm):
            self.norm.num_channels = len(self.index)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:  # models look at the weights and constants of their norms
            return getattr(self.norm, name)

    def forward(self, x: Tensor, *rest: Any) -> Tensor:
        result = self.norm(x.index_select(self.dim, self.index), *rest)
        return torch.zeros_like(x).index_copy(self.dim, self.index, result)


def _counted(model: nn.Module, kept: Kept) -> nn.Module:
    """Return a masked copy whose layer, group and root mean square norms count the kept channels only."""
    masked = _masked(model, kept)
    for path, module in list(masked.named_modules()):
        mask = kept.get(f"{path}.weight")
        if mask is None or mask.ndim != 1 or not _counts(module, mask):
            continue
        parent, _, name = path.rpartition(".")
        setattr(masked.get_submodule(parent), name, _OnKept(module, mask))
    return masked


def _counts(module: nn.Module, kept: Tensor) -> bool:
    if isinstance(module, nn.GroupNorm):  # a group norm has a truth only if every group loses as many channels
        return kept.view(module.num_groups, -1).sum(1).unique().numel() == 1
    name = type(module).__name__
    return "LayerNorm" in name or "RMSNorm" in name


def _reference(found: Axes | None, kept: Kept, inputs: Any) -> list[Any] | None:
    """Run sparsify's reference, if what is gone are indices of its groups and nothing else."""
    if found is None:
        return None
    keep = _as_indices(found, kept)
    return None if keep is None else reference_outputs(found, keep, pytree.tree_leaves(inputs))


def _as_indices(found: Axes, kept: Kept) -> Keep | None:
    from sparsify.groups import groups_of

    keep: dict[Axis, Tensor] = {}
    for group in groups_of(found):
        stays = torch.ones(group.size, dtype=torch.bool)
        for member in group.members:
            mask = kept.get(member.parameter)
            if mask is None:
                continue
            gone = ~mask.transpose(0, member.dim).flatten(1).any(1) if mask.ndim > 1 else ~mask
            for row in member.index:
                for index in row[gone & (row >= 0)].unique():
                    stays[index] &= not bool(gone[row == index].all())
        if not bool(stays.all()):
            keep[group.axis] = stays
    masks = member_masks(found, keep)
    names = {name for name in {**kept, **masks} if name in found.program.parameters}
    full = torch.ones((), dtype=torch.bool)
    same = all(torch.equal(*torch.broadcast_tensors(kept.get(n, full), masks.get(n, full))) for n in names)
    return keep if same else None
