import torch
from helpers.stats import channel_stats
from helpers.trials import ORDER, Imitation, known_uses, of_groups

import sparsify as sp
from sparsify.criteria.channel_oracle import ChannelOracle


def test_the_score_is_the_damage_with_its_sign():
    stats = channel_stats(3, channel_damage=[0.5, -0.25, 0.0])
    assert ChannelOracle().channel(stats).tolist() == [0.5, -0.25, 0.0]


def test_it_ranks_channels_by_their_use():
    model, program = known_uses()
    measured = of_groups(program, ChannelOracle.needs, Imitation(model))
    (found,) = measured.found["channel-damage"].values()
    assert ChannelOracle().channel(channel_stats(5, channel_damage=found)).argsort().tolist() == ORDER


def test_a_harmful_channel_goes_first():
    model, program = known_uses()
    with torch.no_grad():
        model[2].weight[:, 3] += 50
    clean, _ = known_uses()
    pruned = sp.run(program, ["channel-prune:sparsity=0.2,criterion=channel-oracle", "shrink"], task=Imitation(clean))
    assert pruned.program.parameters["0.weight"].shape == (4, 5)
    assert not bool((pruned.program.parameters["0.weight"][:, 3] != 0).any())
