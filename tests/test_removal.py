import copy

import pytest
import torch
from helpers.random_networks import Spec, networks, zeroed
from helpers.residual import lines, mlp, resnet, settled, wired
from hypothesis import HealthCheck, given, settings
from torch import nn

from sparsify import verify
from sparsify.blocks import blocks
from sparsify.capture import capture
from sparsify.errors import PassError
from sparsify.removal import remove

X = torch.randn(2, 4)


def without(program, *names, granularity="layer", **options):
    return remove(program, [b for b in blocks(program, granularity) if b.name in names], **options)


def output(program, *inputs):
    with torch.no_grad():
        return program.module()(*inputs)


def test_a_block_is_gone_and_the_rest_computes_what_it_did():
    model, program = mlp()
    text, state = str(program), dict(program.parameters)
    shorter = without(program, "blocks.1")
    assert {n for n in state if n not in shorter.parameters} == {n for n in state if n.startswith("blocks.1.")}
    assert len(list(shorter.graph.nodes)) == len(list(program.graph.nodes)) - 8  # 4 parameters, 3 layers, 1 sum
    verify.check(shorter)
    model = copy.deepcopy(model)
    model.blocks[1] = nn.Sequential()
    model.blocks[1].forward = torch.zeros_like
    x = torch.randn(5, 3)
    with torch.no_grad():
        assert torch.equal(output(shorter, x), model(x))
    assert str(program) == text
    assert dict(program.parameters) == state


def relus(program):
    return [
        n.name for n in program.graph.nodes if n.target in (torch.ops.aten.relu.default, torch.ops.aten.relu_.default)
    ]


def test_the_relu_behind_the_sum_goes_when_it_is_redundant():
    _, program = resnet()
    plain, simple = (without(program, "layer1.1", simplify=s) for s in (False, True))
    assert len(relus(plain)) == len(relus(simple)) + 1
    assert torch.equal(output(plain, *program.example.args), output(simple, *program.example.args))
    buffers = {name for name in program.buffers if name not in simple.buffers}
    assert {"layer1.1.bn1.running_mean", "layer1.1.bn2.num_batches_tracked"} <= buffers
    assert all(name.startswith("layer1.1.") for name in buffers)


@pytest.mark.parametrize("name", ["layer1.0", "layer1.1"])
def test_the_relu_stays_when_its_input_may_be_negative(name):
    model, program = resnet(stem_act=False)
    shorter = without(program, name)
    gone = len(relus(program)) - len(relus(shorter))
    assert gone == (1 if name == "layer1.0" else 2)  # the one inside the block, and for layer1.1 the one behind it
    index = int(name[-1])
    model = copy.deepcopy(model)
    model.layer1[index] = nn.ReLU()
    x = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(output(shorter, x), model(x))


@pytest.mark.parametrize("act", [nn.ReLU, nn.ReLU6])
def test_a_chain_of_blocks_leaves_one_activation(act):
    model, program = resnet(act=act)
    shorter = without(program, "layer1.0", "layer1.1")
    model = copy.deepcopy(model)
    model.layer1 = nn.Identity()
    x = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(output(shorter, x), model(x))
    count = sum("relu" in str(n.target) or "hardtanh" in str(n.target) for n in shorter.graph.nodes)
    assert count == 5  # the stem's and two for each block of layer2


@pytest.mark.parametrize("act", [nn.LeakyReLU, nn.GELU])
def test_an_activation_that_is_never_redundant_stays(act):
    model, program = resnet(act=act)
    shorter = without(program, "layer1.1")
    model = copy.deepcopy(model)
    model.layer1[1] = act()
    with torch.no_grad():
        assert torch.equal(output(shorter, *program.example.args), model(*program.example.args))


def test_only_the_branch_of_a_downsampling_block_goes():
    model, program = resnet()
    shorter = without(program, "layer2.0")
    assert {n for n in program.parameters if n not in shorter.parameters} == {
        f"layer2.0.{n}" for n in ("conv1.weight", "conv2.weight", "bn1.weight", "bn1.bias", "bn2.weight", "bn2.bias")
    }
    model = copy.deepcopy(model)
    model.layer2[0] = nn.Sequential(model.layer2[0].downsample, nn.ReLU())
    with torch.no_grad():
        assert torch.equal(output(shorter, *program.example.args), model(*program.example.args))


def test_a_block_with_the_block_inside_it():
    _, program = wired(lambda s, x: s.d((y := s.a(x)) + ((z := s.b(y)) + s.c(z))), (X,), **lines(n=4))
    both, outer = without(program, "c", "b+c"), without(program, "b+c")
    assert str(both) == str(outer)
    assert sorted(without(program, "c").parameters) == sorted(n for n in program.parameters if n[0] != "c")
    assert sorted(outer.parameters) == ["a.bias", "a.weight", "d.bias", "d.weight"]


def test_shared_parameters_go_with_their_last_user():
    def wire(s, x):
        x = s.stem(x)
        for _ in range(3):
            x = x + s.a(x).tanh()
        return s.head(x)

    _, program = wired(wire, (X,), stem=nn.Linear(4, 4), a=nn.Linear(4, 4), head=nn.Linear(4, 4))
    names = [block.name for block in blocks(program)]
    assert names == ["a#1", "a#2", "a#3"]
    assert "a.weight" in without(program, "a#1", "a#3").parameters
    assert "a.weight" not in without(program, *names).parameters


def test_an_encoder_is_not_cut_off_together():
    def wire(s, x, y):
        memory = s.encoder(y).tanh()
        x = s.a(x)
        x = x + s.b(x) * s.key1(memory)
        return s.d(x + s.c(x) * s.key2(memory))

    parts = {name: nn.Linear(4, 4) for name in ("encoder", "key1", "key2")}
    _, program = wired(wire, (X, X + 1), **parts, **lines(n=4))
    one, two = (block.name for block in blocks(program))
    shorter = without(program, one)
    assert {n for n in program.parameters if n not in shorter.parameters} == {
        "b.weight", "b.bias", "key1.weight", "key1.bias",
    }  # fmt: skip
    with pytest.raises(PassError, match=r"Removing b\+key1, c\+key2 would cut off encoder.* Keep one of the blocks"):
        without(program, one, two)


def test_one_decoder_layer_of_an_encoder_and_decoder():
    class Seq2Seq(nn.Module):
        def __init__(self):
            super().__init__()
            self.t = nn.Transformer(8, 2, 1, 2, 8, batch_first=True)

        def forward(self, source, target):
            return self.t(source, target)

    torch.manual_seed(0)
    model, inputs = Seq2Seq().eval(), (torch.randn(2, 4, 8), torch.randn(2, 3, 8))
    program = capture(model, inputs)
    shorter = without(program, "t.decoder.layers.0")
    gone = {name for name in program.parameters if name not in shorter.parameters}
    assert gone == {name for name in program.parameters if name.startswith("t.decoder.layers.0.")}
    model = copy.deepcopy(model)
    del model.t.decoder.layers[0]
    expected = model(*inputs).detach()  # with gradients: torch's fused inference path would round differently
    assert torch.equal(output(shorter, *inputs), expected)
    with pytest.raises(PassError, match=r"would cut off t.encoder.* Keep one of the blocks"):
        without(program, "t.decoder.layers.0", "t.decoder.layers.1")


def test_batch_norm_counters_of_other_modules_stay():
    _, program = resnet()
    shorter = without(program, "layer1.0")
    assert "layer1.1.bn1.num_batches_tracked" in shorter.buffers
    shorter.module(training=True)(*program.example.args)


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(networks())
def test_every_block_of_a_random_network_can_be_removed(spec: Spec):
    torch.manual_seed(spec.seed)
    model = settled(spec.build())
    program = capture(model, (spec.example(),))
    found = {block.name: block for block in blocks(program)}
    assert [name for name, block in found.items() if block.removable] == spec.removable
    assert [name for name, block in found.items() if block.shortcut == "projection"] == spec.projected
    x = spec.example(batch=3)
    for name in [*spec.removable, *spec.projected]:
        shorter = without(program, name)
        verify.check(shorter)
        gone = set(program.parameters) - set(shorter.parameters)
        assert gone == {n for n in program.parameters if n.startswith(f"{name}.branch.")}
        with torch.no_grad():
            # x + 0 keeps every bit of x but the sign of zero, which equal() does not see
            assert torch.equal(output(shorter, x), zeroed(model, name)(x))


def test_everything_at_once():
    model, program = resnet()
    shorter = remove(program, [block for block in blocks(program) if block.removable])
    model = copy.deepcopy(model)
    model.layer1, model.layer2 = nn.Identity(), model.layer2[0]
    with torch.no_grad():
        assert torch.equal(output(shorter, *program.example.args), model(*program.example.args))
    assert [block.name for block in blocks(shorter)] == ["layer2.0"]
