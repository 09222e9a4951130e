import copy

import pytest
import torch
from helpers.residual import mlp, resnet, wired
from helpers.zoo import FAMILIES
from torch import nn

import sparsify as sp
from sparsify import verify
from sparsify.axes import axes
from sparsify.blocks import blocks
from sparsify.groups import groups_of
from sparsify.masking import masked
from sparsify.observation.signals import block_signals, group_signals
from sparsify.observation.watching import Watched
from sparsify.pruning.reference import member_masks


def signals_of(program):
    found = axes(program)
    free = [group for group in groups_of(found) if not group.frozen]
    return found, dict(zip(free, group_signals(found, free), strict=True))


def seen(program, signal):
    values = []
    watched = Watched(program)
    signal.look(watched, values.append)
    with torch.no_grad():
        watched.ready()(*program.example.args, **program.example.kwargs)
    return values


def gated(program, signal, gate):
    watched = Watched(program)
    signal.scale(watched, gate)
    with torch.no_grad():
        return watched.ready()(*program.example.args, **program.example.kwargs)


def only(program):
    _, found = signals_of(program)
    ((group, signal),) = found.items()
    return group, signal


def test_channels_are_seen_behind_the_activation():
    model, program = wired(lambda s, x: s.b(torch.relu(s.a(x))), (torch.randn(5, 3),), a=nn.Linear(3, 4),
                           b=nn.Linear(4, 2))  # fmt: skip
    group, signal = only(program)
    (value,) = seen(program, signal)
    assert (signal.key, signal.size) == (group.name, 4)
    torch.testing.assert_close(value, torch.relu(model.a(program.example.args[0])).detach())


def test_channels_of_images_and_of_sequences_come_second():
    _, program = wired(lambda s, x: s.b(s.a(x)), (torch.randn(2, 1, 6, 6),), a=nn.Conv2d(1, 4, 3), b=nn.Conv2d(4, 2, 3))
    assert seen(program, only(program)[1])[0].shape == (2, 4, 4, 4)
    _, program = wired(lambda s, x: s.b(torch.tanh(s.a(x))), (torch.randn(2, 7, 3),), a=nn.Linear(3, 4),
                       b=nn.Linear(4, 5))  # fmt: skip
    assert seen(program, only(program)[1])[0].shape == (2, 4, 7)


def test_a_channel_that_was_flattened_is_seen_with_its_pixels():
    model, program = wired(lambda s, x: s.b(torch.relu(s.a(x)).flatten(1)), (torch.randn(2, 1, 4, 4),),
                           a=nn.Conv2d(1, 3, 3), b=nn.Linear(12, 2))  # fmt: skip
    (value,) = seen(program, only(program)[1])
    torch.testing.assert_close(value, torch.relu(model.a(program.example.args[0])).detach().flatten(2))


def test_every_place_where_channels_are_read_is_seen():
    _, program = mlp(depth=2)
    _, found = signals_of(program)
    stream = next(signal for group, signal in found.items() if group.kind == "stream")
    assert len(seen(program, stream)) == 3  # two blocks and the head


def test_a_gate_scales_every_channel():
    model, program = wired(lambda s, x: s.b(torch.relu(s.a(x))), (torch.randn(5, 3),), a=nn.Linear(3, 4),
                           b=nn.Linear(4, 2))  # fmt: skip
    gate = torch.tensor([1.0, 0.0, 0.5, 2.0])
    with torch.no_grad():
        expected = model.b(gate * torch.relu(model.a(program.example.args[0])))
    torch.testing.assert_close(gated(program, only(program)[1], gate), expected)


def test_an_open_gate_changes_no_bit():
    model, program = resnet()
    _, found = signals_of(program)
    for signal in found.values():
        assert torch.equal(gated(program, signal, torch.ones(signal.size)), model(*program.example.args))


def test_gates_have_gradients():
    _, program = mlp(depth=1)
    _, found = signals_of(program)
    signal = next(iter(found.values()))
    gate = torch.ones(signal.size, requires_grad=True)
    watched = Watched(program)
    signal.scale(watched, gate)
    (gradient,) = torch.autograd.grad(watched.ready()(*program.example.args).sum(), gate)
    assert gradient.any()


def closed_is_masked(program, units=None):
    """A closed channel is a masked one wherever masking is the same as removing."""
    found, signals = signals_of(program)
    tried = 0
    for group, signal in signals.items():
        if not group.exact or (units and group.kind not in units):
            continue
        keep = torch.ones(group.size, dtype=torch.bool)
        keep[1] = False
        small = masked(program, member_masks(found, {group.axis: keep}))
        outputs = torch.utils._pytree.tree_leaves(gated(program, signal, keep.float()))
        for one, other in zip(verify.outputs(small), outputs, strict=True):
            assert verify.difference(one, other) <= 10 * verify.tolerance(one), group.name
        tried += 1
    return tried


def test_a_closed_channel_is_a_removed_channel():
    assert closed_is_masked(resnet()[1]) >= 5
    assert closed_is_masked(mlp()[1]) == 4


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "mixtral", "convnext", "regnet"])
def test_a_closed_channel_head_or_expert_of_a_family_is_a_removed_one(name):
    model, args, kwargs = FAMILIES[name]()
    assert closed_is_masked(sp.capture(model, args, kwargs)) >= 2


def test_a_block_is_seen_as_what_it_adds():
    model, program = mlp()
    block = next(block for block in blocks(program) if block.name == "blocks.1")
    (signal,) = block_signals(program, [block])
    (value,) = seen(program, signal)
    with torch.no_grad():
        x = model.stem(program.example.args[0])
        torch.testing.assert_close(value, model.blocks[1](x + model.blocks[0](x)))
    assert (signal.key, signal.size) == ("blocks.1", 4)


@pytest.mark.parametrize("size", [4, 1])
def test_a_closed_block_is_skipped(size):
    model, program = mlp()
    block = next(block for block in blocks(program) if block.name == "blocks.1")
    other = copy.deepcopy(model)
    other.blocks = nn.ModuleList([model.blocks[0], model.blocks[2]])
    (signal,) = block_signals(program, [block])
    with torch.no_grad():
        torch.testing.assert_close(gated(program, signal, torch.zeros(size)), other(*program.example.args))


def test_a_block_that_changes_the_shape_is_its_output():
    _, program = resnet()
    block = next(block for block in blocks(program) if block.name == "layer2.0")
    (signal,) = block_signals(program, [block])
    (value,) = seen(program, signal)
    assert value.shape == (2, 6, 4, 4)
    assert signal.size == 6


def test_a_block_of_a_transformer_has_its_features_as_channels():
    model, args, kwargs = FAMILIES["bert"]()
    program = sp.capture(model, args, kwargs)
    (signal, *_) = block_signals(program, [block for block in blocks(program) if block.removable])
    assert seen(program, signal)[0].shape == (2, 48, 11)
