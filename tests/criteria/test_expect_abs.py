import torch
from helpers.residual import mlp
from helpers.stats import block_stats, channel_stats, measure

import sparsify as sp
from sparsify.blocks import blocks
from sparsify.criteria.expect_abs import ExpectAbs


def test_the_score_is_the_mean_and_a_block_has_the_mean_of_its_channels():
    stats = channel_stats(2, mean_absolute=[0.5, 1.5])
    assert ExpectAbs().channel(stats).tolist() == [0.5, 1.5]
    assert ExpectAbs().block(block_stats(channels=stats)) == 1.0


def test_the_block_that_adds_least_is_removed():
    model, program = mlp()
    with torch.no_grad():
        model.blocks[1][2].weight *= 0.01
        model.blocks[1][2].bias *= 0.01
    after = sp.run(program, ["layer-prune:count=1,criterion=expect-abs"]).program
    assert not any(name.startswith("blocks.1") for name in after.parameters)
    assert any(name.startswith("blocks.0") for name in after.parameters)
    found = blocks(program)
    measured = measure(program, ExpectAbs.needs, blocks=found)
    assert min(found, key=lambda block: ExpectAbs().block(measured.of_block(block, 4))).name == "blocks.1"
