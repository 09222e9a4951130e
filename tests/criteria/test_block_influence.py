import pytest
import torch
from helpers.residual import mlp, wired
from helpers.stats import block_stats, measure, weight_stats
from torch import nn

from sparsify.blocks import blocks
from sparsify.criteria.block_influence import BlockInfluence


def influences(program):
    found = blocks(program)
    statistics = measure(program, BlockInfluence.needs, None, blocks=found)
    return [BlockInfluence().block(statistics.of_block(block)) for block in found]


def test_equals_what_forward_hooks_see():
    model, program = mlp()
    seen = []

    def hook(module, inputs, output):
        before, after = inputs[0].double(), (inputs[0] + output).double()
        seen.append(float((1 - nn.functional.cosine_similarity(before, after)).mean()))

    for block in model.blocks:
        block.register_forward_hook(hook)
    with torch.no_grad():
        model(*program.example.args)
    assert influences(program) == pytest.approx(seen, rel=1e-6)


def test_sequences_are_compared_token_by_token():
    x = torch.randn(2, 5, 3)
    model, program = wired(lambda s, x: s.head((y := s.stem(x)) + s.f(y)), (x,), stem=nn.Linear(3, 4),
                           f=nn.Linear(4, 4), head=nn.Linear(4, 2))  # fmt: skip
    with torch.no_grad():
        before = model.stem(x)
        after = before + model.f(before)
    expected = 1 - nn.functional.cosine_similarity(before, after, dim=-1)
    assert expected.shape == (2, 5)
    assert influences(program) == pytest.approx([float(expected.mean())], rel=1e-4)  # float32 here, float64 there


def test_scaling_turns_nothing_and_a_flip_turns_all():
    model, program = mlp(depth=1)
    with torch.no_grad():
        for parameter in model.blocks[0].parameters():
            parameter.zero_()
    assert influences(program) == pytest.approx([0.0], abs=1e-12)
    assert BlockInfluence().block(block_stats(influence=2.0)) == 2.0


def test_single_weights_have_no_influence():
    with pytest.raises(TypeError, match="BlockInfluence does not score single weights"):
        BlockInfluence().weight(weight_stats([1.0]))
