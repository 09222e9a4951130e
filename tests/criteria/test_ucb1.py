from helpers.stats import channel_stats
from helpers.trials import Imitation, known_uses

import sparsify as sp
from sparsify.criteria.ucb1 import Ucb1


def test_the_score_is_the_mean_damage():
    assert Ucb1().channel(channel_stats(3, ucb1_damage=[0.5, -1.0, 0.0])).tolist() == [0.5, -1.0, 0.0]


def test_it_takes_the_channels_that_nobody_needs():
    model, program = known_uses()
    pruned = sp.run(program, ["channel-prune:sparsity=0.4,criterion=ucb1", "shrink"], task=Imitation(model))
    assert pruned.program.parameters["0.weight"].nonzero()[:, 1].tolist() == [
        1,
        2,
        3,
    ]  # the rows of an identity that are left
