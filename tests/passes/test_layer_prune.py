import math
from dataclasses import replace

import pytest
import torch
from helpers.regression import Regression
from helpers.residual import lines, mlp, resnet, wired
from torch import nn

import sparsify as sp
from sparsify.blocks import blocks
from sparsify.errors import PassError, UsageError

BEFORE = """\
%x: float32[batch, 3] = input
%linear: float32[batch, 4] = linear(%x, stem.weight, stem.bias)
%linear_1: float32[batch, 6] = linear(%linear, blocks.0.0.weight, blocks.0.0.bias)
%tanh: float32[batch, 6] = tanh(%linear_1)
%linear_2: float32[batch, 4] = linear(%tanh, blocks.0.2.weight, blocks.0.2.bias)
%add: float32[batch, 4] = add.Tensor(%linear, %linear_2)
%linear_3: float32[batch, 6] = linear(%add, blocks.1.0.weight, blocks.1.0.bias)
%tanh_1: float32[batch, 6] = tanh(%linear_3)
%linear_4: float32[batch, 4] = linear(%tanh_1, blocks.1.2.weight, blocks.1.2.bias)
%add_1: float32[batch, 4] = add.Tensor(%add, %linear_4)
%linear_5: float32[batch, 2] = linear(%add_1, head.weight, head.bias)
return [%linear_5]"""
AFTER = """\
%x: float32[batch, 3] = input
%linear: float32[batch, 4] = linear(%x, stem.weight, stem.bias)
%linear_1: float32[batch, 6] = linear(%linear, blocks.0.0.weight, blocks.0.0.bias)
%tanh: float32[batch, 6] = tanh(%linear_1)
%linear_2: float32[batch, 4] = linear(%tanh, blocks.0.2.weight, blocks.0.2.bias)
%add: float32[batch, 4] = add.Tensor(%linear, %linear_2)
%linear_5: float32[batch, 2] = linear(%add, head.weight, head.bias)
return [%linear_5]"""


def graded(depth=4):
    """A network whose block 2 has the smallest weights, then 0, 1, 3."""
    model, program = mlp(depth)
    with torch.no_grad():
        for block, size in zip(model.blocks, (0.2, 0.3, 0.1, 0.4), strict=False):
            for parameter in block.parameters():
                parameter.fill_(size)
    return program


def pruned(program, options="", **context):
    return sp.run(program, [f"layer-prune:{options}"], **context)


def removed(program, options="", **context):
    (step,) = pruned(program, options, **context).report["passes"]
    return [name.removeprefix("blocks.") for name in step["removed"]]


def test_golden():
    _, program = mlp(depth=2)
    assert str(program) == BEFORE
    result = pruned(program, "blocks=blocks.1")
    assert str(result.program) == AFTER
    assert str(program) == BEFORE
    assert result.program.history == ("layer-prune:blocks=blocks.1",)
    assert result.report["passes"][0]["parameters_removed"] == 6 * 4 + 6 + 4 * 6 + 4


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", ["2"]),
        ("count=1", ["2"]),
        ("count=2", ["0", "2"]),
        ("count=4", ["0", "1", "2", "3"]),
        ("count=0", []),
        ("sparsity=0.5", ["0", "2"]),
        ("sparsity=0.74", ["0", "2"]),
        ("sparsity=0.75", ["0", "1", "2"]),
        ("sparsity=0", []),
        ("blocks=blocks.3", ["3"]),
        ("blocks=blocks.3,blocks.1", ["1", "3"]),
        ("protect=blocks.2", ["0"]),
        ("protect=*.2,*.0", ["1"]),
        ("count=2,protect=blocks.[01]", ["2", "3"]),
    ],
)
def test_which_blocks_go(options, expected):
    assert removed(graded(), options) == expected


def test_the_state_is_gone():
    _, program = resnet()
    result = pruned(program, "blocks=layer1.0").program
    assert not [name for name in (*result.parameters, *result.buffers) if name.startswith("layer1.0.")]
    assert len(program.buffers) - len(result.buffers) == 6
    state = result.module().state_dict()
    assert set(state) == {name for name in program.module().state_dict() if not name.startswith("layer1.0.")}


def test_nothing_to_do_gives_an_equal_program():
    program = graded()
    result = pruned(program, "count=0").program
    assert str(result) == str(program)
    assert result.parameters == program.parameters


@pytest.mark.parametrize(
    ("options", "done"),
    [
        ("sparsity=0.2", "removed nothing: 0.2 of 4 removable blocks is less than one block"),
        ("sparsity=0.9,protect=*.[012]", "removed nothing: 0.9 of 1 removable block is less than one block"),
        ("sparsity=0.5,protect=*", "removed nothing: no unprotected block is removable"),
        ("sparsity=0", None),
        ("sparsity=0.5", None),
    ],
)
def test_a_fraction_that_is_no_block_is_told(options, done):
    (step,) = pruned(graded(), options).report["passes"]
    assert step.get("done") == done


def test_ties_go_to_the_earlier_block():
    model, program = mlp(4)
    with torch.no_grad():
        for parameter in model.blocks.parameters():
            parameter.fill_(0.5)
    assert removed(program, "count=2") == ["0", "1"]


def test_one_pass_after_another():
    program = graded()
    result = sp.run(program, ["layer-prune:count=1", "layer-prune:count=1"])
    assert [step["removed"] for step in result.report["passes"]] == [["blocks.2"], ["blocks.0"]]
    at_once = pruned(program, "count=2").program
    assert str(result.program) == str(at_once)
    assert result.program.history == ("layer-prune:count=1",) * 2


def test_sublayers():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn, self.mlp = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = x + self.attn(x)
            return x + self.mlp(x)

    program = sp.capture(nn.Sequential(nn.Linear(3, 4), Layer(), Layer()), (torch.randn(2, 3),))
    by_layer, by_sublayer = pruned(program, "blocks=2"), pruned(program, "blocks=2.mlp,granularity=sublayer")
    assert set(by_sublayer.program.parameters) - set(by_layer.program.parameters) == {"2.attn.weight", "2.attn.bias"}
    with pytest.raises(PassError, match=r"no block '2.mlp' at granularity=layer"):
        pruned(program, "blocks=2.mlp")


def test_a_projected_block_needs_shortcut_keep():
    _, program = resnet()
    with pytest.raises(PassError, match=r"The block layer2.0 cannot be removed: its shortcut is not the identity"):
        pruned(program, "blocks=layer2.0")
    result = pruned(program, "blocks=layer2.0,shortcut=keep").program
    assert "layer2.0.downsample.0.weight" in result.parameters
    assert "layer2.0.conv1.weight" not in result.parameters
    assert removed(program, "count=4,shortcut=keep") == ["layer1.0", "layer1.1", "layer2.0", "layer2.1"]


def test_shortcut_keep_does_not_drop_a_branch_that_is_read_elsewhere():
    def wire(s, x):
        x = s.stem(x)
        z = s.one(x)
        return s.short(x) + s.two(z), z

    sizes = {"stem": (4, 4), "one": (4, 6), "two": (6, 5), "short": (4, 5)}
    _, program = wired(wire, (torch.randn(2, 4),), **{name: nn.Linear(*size) for name, size in sizes.items()})
    with pytest.raises(PassError, match="only 0 of 1 blocks are removable"):
        pruned(program, "shortcut=keep")


def test_a_block_that_contains_others_is_only_removed_by_name():
    def wire(s, x):
        x = skip = s.a(x)
        x = s.b(x)
        x = x + s.c(x)
        return s.d(x + skip)

    _, program = wired(wire, (torch.randn(2, 4),), **lines(n=4))
    assert removed(program) == ["c"]
    with pytest.raises(PassError, match="2 blocks should go, but only 1 of 2"):
        pruned(program, "count=2")
    assert removed(program, "blocks=b+c") == ["b+c"]


@pytest.mark.parametrize("criterion", ["random", "magnitude", "block-influence", "snip", "grasp", "taylor", "oracle"])
def test_every_criterion_and_the_score_in_the_report(criterion):
    program = graded()
    results = [pruned(program, f"criterion={criterion},batches=2", task=Regression(), seed=3) for _ in range(2)]
    steps = [result.report["passes"][0] for result in results]
    scores = steps[0]["scores"]
    assert list(scores) == [f"blocks.{i}" for i in range(4)]
    assert steps[0]["removed"] == [min(scores, key=scores.get)]
    assert steps[0]["scores"] == steps[1]["scores"]
    assert [block.name for block in blocks(results[0].program)] == [n for n in scores if n not in steps[0]["removed"]]


def test_batches_are_those_that_were_asked_for():
    task = Regression(count=9)
    pruned(graded(), "criterion=snip,batches=3", task=task)
    assert task.asked - 2 * task.count == 3  # the report scores the program before and after


def test_random_follows_the_seed():
    program = graded()
    assert len({tuple(removed(program, "criterion=random", seed=seed)) for seed in range(8)}) > 1


def test_a_step_of_training_afterwards():
    _, program = resnet()
    module = pruned(program, "count=2").program.module(training=True)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    module(*program.example.args).square().mean().backward()
    optimizer.step()
    assert all(not torch.equal(value, before[name]) for name, value in module.named_parameters())
    assert int(module.get_buffer("layer2.0.bn1.num_batches_tracked")) == 1


REFUSALS = {
    "count=3": r"3 blocks should go, but only 2 of 3 .* layer2.0 is not removable: its shortcut .*sparsify inspect",
    "blocks=layer1.7": r"There is no block 'layer1.7' .*did you mean 'layer1.\d'",
    "criterion=snip": r"The criterion snip needs a loss: give a task",
    "criterion=grasp": r"needs a loss",
    "criterion=taylor": r"needs a loss",
    "criterion=oracle": r"needs data, and the example inputs are random",
    "criterion=block-influence": r"needs data, and the example inputs are random",
}


@pytest.mark.parametrize("options", REFUSALS)
def test_refusals(options):
    _, program = resnet()
    shorter = pruned(program, "blocks=layer1.1").program
    made_up = shorter.with_example(program.example.args, {}, synthetic=True)
    with pytest.raises(PassError, match=REFUSALS[options]):
        pruned(made_up, options)


def test_too_many_says_what_is_protected():
    with pytest.raises(PassError, match=r"2 blocks should go, but only 1 of 4 blocks .*protect"):
        pruned(graded(), "count=2,protect=blocks.[012]")


def test_nan_weights_are_named():
    program = graded()
    broken = {**program.parameters, "blocks.1.0.weight": nn.Parameter(torch.full((6, 4), math.nan))}
    with pytest.raises(PassError, match=r"The score of the block blocks.1 is not finite"):
        pruned(replace(program, parameters=broken))


USAGE = {
    "count=two": r"count='two' is not a whole number\.$",
    "number=2": r"no option 'number'.*Options of layer-prune: count",
    "count=1,sparsity=0.5": r"one of count, sparsity and blocks, not count and sparsity",
    "count=-1": r"count=-1 is negative",
    "sparsity=1": r"sparsity=1.0 is not in \[0, 1\)",
    "batches=0": r"batches=0 is less than 1",
    "criterion=magnitud": r"no criterion 'magnitud'.*did you mean 'magnitude'",
    "granularity=block": r"granularity='block' is not one of layer, sublayer",
}


@pytest.mark.parametrize("options", USAGE)
def test_wrong_options(options):
    with pytest.raises(UsageError, match=USAGE[options]):
        pruned(graded(), options)


def test_protecting_what_is_not_there_is_refused():
    with pytest.raises(PassError, match=r"protect=blocks_2 matches no block .*did you mean 'blocks\.2'"):
        pruned(graded(), "protect=blocks_2")


def test_naming_a_protected_block_is_refused():
    with pytest.raises(PassError, match=r"blocks\.1 is named in blocks= and protected"):
        pruned(graded(), "blocks=blocks.1,protect=*.1")


def test_a_model_without_blocks_is_told_so():
    program = sp.capture(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), (torch.randn(2, 3),))
    with pytest.raises(PassError, match="no residual block"):
        pruned(program, "count=1")
