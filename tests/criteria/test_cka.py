import pytest
import torch
from helpers.regression import Regression
from helpers.residual import mlp
from helpers.stats import block_stats, channel_stats, measure
from helpers.trials import known_uses, of_groups
from helpers.zoo import FAMILIES

import sparsify as sp
from sparsify.blocks import blocks
from sparsify.criteria.cka import Cka


def test_the_score_is_what_is_lacking_of_one():
    torch.testing.assert_close(
        Cka().channel(channel_stats(2, output_similarity=[0.75, 1.0])), torch.tensor([0.25, 0.0])
    )
    assert Cka().block(block_stats(output_similarity=0.75)) == 0.25


def test_a_dead_channel_scores_lowest_and_the_main_one_highest():
    model, program = known_uses()
    with torch.no_grad():
        model[2].weight[0] *= torch.tensor([1.0, -1.0, 1.0, 0.5, 1.0])  # else all outputs were one number
    measured = of_groups(program, Cka.needs)
    scores = [
        Cka().channel(channel_stats(5, output_similarity=f)) for f in measured.found["output-similarity"].values()
    ]
    assert scores[0].argmin() == 0
    assert float(scores[0][0]) == pytest.approx(0, abs=1e-12)
    assert scores[0].argmax() == 3


def test_a_block_that_does_nothing_scores_lowest():
    model, program = mlp()
    with torch.no_grad():
        for parameter in model.blocks[1][2].parameters():
            parameter.zero_()
    measured = measure(program, Cka.needs, Regression(), blocks=blocks(program))
    scores = {block.name: Cka().block(measured.of_block(block)) for block in blocks(program)}
    assert min(scores, key=scores.get) == "blocks.1"


def test_it_takes_a_layer_of_a_transformer():
    model, args, kwargs = FAMILIES["bert"]()
    program = sp.capture(model, args, kwargs)
    assert len(blocks(sp.run(program, ["layer-prune:count=1,criterion=cka"]).program)) < len(blocks(program))
