"""Every network of the zoo loses half of everything that is free, and computes what the reference says it should."""

from types import SimpleNamespace

import pytest
from helpers.axes import assert_removable, removable
from helpers.zoo import FAMILIES, NETWORKS

from sparsify.axes import axes
from sparsify.capture import capture
from sparsify.groups import groups_of

ENTRIES = {**FAMILIES, **NETWORKS}
ROUNDING = 1e-4  # float32 keeps 7 digits; sums of some hundred numbers through a dozen layers lose three of them
MOST = 0.95
LESS = {  # the share of the weights that have something to remove, where that is not most of them
    "shuffle-net": 0.46,  # three groups of four channels are shuffled as if they were four groups of three
    "channel-order": 0.83,  # the stem's channels are sorted
    "roll-channels": 0.81,  # the stem's channels change their places
    "index-buffer": 0.86,  # the stem's channels are looked up in a table
    "mystery": 0.81,  # nobody knows what happens to the stem's channels
    "spatial-attention": 0.82,  # the gate's kernel reads two channels, a mean and a maximum, and makes one
    "two-inputs": 0.89,  # the last features are an output
    "multi-query": 0.91,  # from here on: what the head reads is added to the input
    "einsum-attention": 0.94,
    "fused-unbind": 0.94,
    "fused-chunk": 0.94,
    "cosine-attention": 0.94,
}


@pytest.fixture(scope="module", params=ENTRIES)
def entry(request):
    model, args, kwargs = ENTRIES[request.param]()
    typed = axes(capture(model, args, kwargs))
    return SimpleNamespace(name=request.param, typed=typed, groups=groups_of(typed))


def test_all_that_is_free_can_go_at_once(entry):
    assert_removable(entry.typed, removable(entry.groups), ROUNDING)


def test_all_that_masks_can_take_away_can_go_at_once(entry):
    exact = [group for group in removable(entry.groups) if group.exact]
    assert_removable(entry.typed, exact, ROUNDING, thorough=False)


def test_each_group_can_go_alone(entry):
    step = 4 if entry.name in FAMILIES else 1  # some have two dozen groups, and each takes as long as all together
    for group in removable(entry.groups)[::step]:
        assert_removable(entry.typed, [group], ROUNDING, thorough=False)


def test_most_weights_have_something_to_remove(entry):
    weights = entry.typed.program.parameters
    free = {member.parameter for group in removable(entry.groups) for member in group.members}
    share = sum(weights[name].numel() for name in free) / sum(weight.numel() for weight in weights.values())
    assert share >= LESS.get(entry.name, MOST)
    assert (share < MOST) == (entry.name in LESS)


def test_every_operator_is_known(entry):
    assert list(entry.typed.unknown) == (["zoo::mystery"] if entry.name == "mystery" else [])
