import torch
from helpers.residual import mlp
from helpers.stats import block_stats, channel_stats, measure
from helpers.trials import ORDER, known_uses, of_groups
from helpers.zoo import FAMILIES

import sparsify as sp
from sparsify.blocks import blocks
from sparsify.criteria.kl import Kl


def test_the_score_is_the_divergence():
    assert Kl().channel(channel_stats(2, output_divergence=[0.5, 0.0])).tolist() == [0.5, 0.0]
    assert Kl().block(block_stats(output_divergence=0.25)) == 0.25


def test_it_ranks_channels_by_what_they_do_to_the_answer():
    _, program = known_uses()
    (found,) = of_groups(program, Kl.needs).found["output-divergence"].values()
    assert found[0] == 0
    assert found.argsort().tolist() == ORDER


def test_a_channel_that_moves_all_logits_alike_is_worth_nothing():
    model, program = known_uses()
    with torch.no_grad():
        model[2].weight[:, 3] = 7.0
    (found,) = of_groups(program, Kl.needs).found["output-divergence"].values()
    assert abs(float(found[3])) < 1e-9


def test_a_block_that_does_nothing_scores_lowest():
    model, program = mlp()
    with torch.no_grad():
        for parameter in model.blocks[1][2].parameters():
            parameter.zero_()
    measured = measure(program, Kl.needs, blocks=blocks(program))
    scores = {block.name: Kl().block(measured.of_block(block)) for block in blocks(program)}
    assert min(scores, key=scores.get) == "blocks.1"
    assert sp.run(program, ["layer-prune:count=1,criterion=kl"]).program.history


def test_it_prunes_a_language_model():
    model, args, kwargs = FAMILIES["gpt2"]()
    program = sp.capture(model, args, kwargs)
    passes = ["channel-prune:sparsity=0.5,criterion=kl,units=heads", "layer-prune:count=1,criterion=kl"]
    pruned = sp.run(program, passes).program
    assert len(pruned.parameters) < len(program.parameters)
