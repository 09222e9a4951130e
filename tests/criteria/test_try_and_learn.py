from helpers.stats import channel_stats
from helpers.trials import Imitation, known_uses

import sparsify as sp
from sparsify.criteria.try_and_learn import TryAndLearn


def test_the_score_is_the_logit():
    assert TryAndLearn().channel(channel_stats(3, keep_logit=[2.0, -8.0, 0.0])).tolist() == [2.0, -8.0, 0.0]


def test_it_keeps_the_channel_that_matters_most():
    model, program = known_uses()
    spec = "channel-prune:sparsity=0.8,criterion=try-and-learn"
    pruned = sp.run(program, [spec, "shrink"], task=Imitation(model))
    assert pruned.program.parameters["0.weight"].nonzero()[:, 1].tolist() == [3]
