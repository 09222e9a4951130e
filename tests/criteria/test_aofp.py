from helpers.stats import channel_stats
from helpers.trials import known_uses
from helpers.zoo import FAMILIES

import sparsify as sp
from sparsify.criteria.aofp import Aofp


def test_the_score_is_the_place_in_the_search():
    assert Aofp().channel(channel_stats(3, filter_search=[2.5, 0.25, 1.0])).tolist() == [2.5, 0.25, 1.0]


def test_it_keeps_the_channel_that_the_next_layer_hangs_on():
    _, program = known_uses()
    pruned = sp.run(program, ["channel-prune:sparsity=0.6,criterion=aofp", "shrink"])
    assert pruned.program.parameters["0.weight"].nonzero()[:, 1].tolist() == [2, 3]


def test_it_prunes_the_heads_and_neurons_of_a_transformer():
    model, args, kwargs = FAMILIES["bert"]()
    program = sp.capture(model, args, kwargs)
    pruned = sp.run(program, ["channel-prune:sparsity=0.5,criterion=aofp", "shrink"])
    assert pruned.program.parameters["bert.encoder.layer.0.intermediate.dense.weight"].shape == (40, 48)
