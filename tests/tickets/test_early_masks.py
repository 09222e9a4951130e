"""Early masks: they are those of the passes for the same weights, and say what is left alone."""

from dataclasses import replace

import pytest
import torch
from helpers.attending import attending
from helpers.residual import resnet
from helpers.sparse import Clusters, program_of
from torch import nn

import sparsify as sp
from sparsify.errors import PassError
from sparsify.tickets.early_masks import drawing
from sparsify.tickets.early_options import EarlyOptions


def drawn(program, **options):
    return drawing(program, Clusters(), EarlyOptions(**options), 0)


def with_scales(program, seed=0):
    """Return a program whose vectors of scales differ from channel to channel."""
    generator = torch.Generator().manual_seed(seed)
    changed = {
        name: nn.Parameter(torch.rand(value.shape, generator=generator) + 0.1)
        for name, value in program.parameters.items()
        if value.ndim == 1 and name.endswith("weight")
    }
    return replace(program, parameters={**program.parameters, **changed})


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(mask, other[name]) for name, mask in one.items())


def test_channels_are_those_of_channel_prune():
    program = with_scales(resnet()[1])
    found = drawn(program, sparsity=0.5)
    spec = "channel-prune:sparsity=0.5,criterion=norm-scale,scope=global"  # every channel here has a norm
    expected = sp.run(program, [spec]).program
    assert equal(found.masks(program), dict(expected.masks))
    mask = found.mask(program)
    assert len(mask) == sum(group.size for group in sp.groups(program) if group.kind == "channels" and not group.frozen)
    assert int(mask.sum()) == len(mask) // 2


def test_channels_without_a_batch_norm_are_left_alone():
    program = with_scales(program_of(norm=True))
    found = drawn(program, sparsity=0.25)
    assert found.penalized == ("1.weight",)
    assert found.record(program) == {"groups": {"0": "32 -> 24"}, "left_alone": ["3"]}
    scales = program.parameters["1.weight"].detach()
    assert set((~found.mask(program)).nonzero().flatten().tolist()) == set(scales.argsort()[:8].tolist())
    by_size = drawn(program, sparsity=0.25, criterion="filter-norm", scope="uniform")
    assert by_size.record(program)["groups"] == {"0": "32 -> 24", "3": "16 -> 12"}


def test_what_is_protected_stays():
    program = with_scales(program_of(norm=True))
    found = drawn(program, criterion="magnitude", protect=("5",), scope="uniform")
    assert found.record(program) == {"groups": {"0": "32 -> 16"}, "left_alone": ["3"]}
    with pytest.raises(PassError, match="protect=7 matches no group"):
        drawn(program, criterion="magnitude", protect=("7",))


def test_weights_are_those_of_weight_prune():
    program = program_of()
    found = drawn(program, unit="weights", sparsity=0.8)
    expected = sp.run(program, ["weight-prune:sparsity=0.8,scope=global"]).program.masks
    assert equal(found.masks(program), dict(expected))
    assert int((~found.mask(program)).sum()) == round(0.8 * (12 * 32 + 32 * 16 + 16 * 4))
    by_layer = drawn(program, unit="weights", sparsity=0.5, scope="uniform", protect=("4",))
    assert {name: int(mask.sum()) for name, mask in by_layer.masks(program).items()} == {
        "0.weight": 12 * 16, "2.weight": 16 * 16
    }  # fmt: skip


def test_heads_and_neurons_go_by_their_coefficients():
    program = attending()
    found = drawn(program, unit="heads", sparsity=0.5)
    assert found.record(found.program)["groups"] == {"q/heads": "4 -> 2", "up": "24 -> 12"}
    module = found.program.module()
    heads, neurons = (module.get_parameter(name) for name in found.penalized)
    heads.data.copy_(torch.tensor([0.1, -0.9, 0.8, 0.2]))
    neurons.data.copy_(torch.linspace(-1, -0.01, 24))
    trained = found.program.with_state(module)
    mask = found.mask(trained)
    assert mask[:4].tolist() == [False, True, True, False]
    assert mask[4:].tolist() == [True] * 12 + [False] * 12
    kept = found.masks(trained)["o.weight"][0]
    assert kept.tolist() == [False] * 4 + [True] * 8 + [False] * 4
    assert found.plain(trained).parameters.keys() == program.parameters.keys()


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (program_of, {}, r"no group of channels behind a batch norm .* unit=weights"),
        (program_of, {"unit": "heads"}, "no attention head"),
        (attending, {"unit": "heads", "protect": ("q/heads", "up")}, "protect= leaves no head and no neuron"),
    ],
)
def test_where_there_is_nothing_to_prune_it_says_what_helps(make, options, message):
    with pytest.raises(PassError, match=message):
        drawn(make(), **options)
