import math

import numpy as np
import pytest
import torch
from helpers.given import parts, signals
from helpers.residual import wired
from helpers.stats import channel_stats, measure
from torch import nn

import sparsify as sp
from sparsify.criteria.entropy import Entropy
from sparsify.errors import UsageError
from sparsify.pruning.choice import made


def scores(counts, centres, **options):
    table = torch.stack([torch.tensor(counts).double(), torch.tensor(centres).double()])
    return Entropy(**options).channel(channel_stats(len(counts), pooled_histogram=table))


def test_formula():
    found = scores([[1, 0, 2, 1]], [[0.0, 1.0, 2.0, 10.0]], bins=5)  # one, two and one in bins of width two
    share = [1 / 4, 2 / 4, 1 / 4]
    assert float(found) == pytest.approx(-sum(p * math.log(p) for p in share))


def test_even_bins_have_the_most_and_one_bin_none():
    even, one = scores([[5, 5, 5, 5], [0, 20, 0, 0]], [[0.0, 1.0, 2.0, 3.0]] * 2, bins=4).tolist()
    assert even == pytest.approx(math.log(4))
    assert one == 0.0


def test_rounding_is_no_information():
    noise = [[1.0, 1.0 + 1e-7, 1.0 + 2e-7, 1.0 + 3e-7]]
    assert scores([[5, 5, 5, 5]], noise).tolist() == [0.0]
    assert scores([[5, 5, 5, 5]], [[value - 1 for value in noise[0]]]).tolist()[0] > 1


def test_it_is_close_to_the_entropy_of_numpys_histogram_of_all_data():
    x = torch.randn(400, 3) * torch.tensor([1.0, 5.0, 0.1]) + torch.tensor([0.0, 3.0, -8.0])
    x[:, 1] = x[:, 1].exp()  # far from even
    model, program = wired(lambda s, x: s.b(s.a(x)), (x[:4],), a=nn.Linear(3, 6), b=nn.Linear(6, 2))
    found = measure(program, Entropy.needs, parts(x, count=8)[0], signals=signals(program)).found["pooled-histogram"]
    ours = Entropy(bins=20).channel(channel_stats(6, pooled_histogram=found["a"]))
    with torch.no_grad():
        hidden = model.a(x).double().numpy()
    for channel in range(6):
        share = np.histogram(hidden[:, channel], 20)[0] / 400
        expected = -(share[share > 0] * np.log(share[share > 0])).sum()
        assert float(ours[channel]) == pytest.approx(expected, abs=0.03)  # a few examples are in the bin beside theirs


def test_a_channel_that_says_the_same_of_all_examples_goes_first():
    model, program = wired(
        lambda s, x: s.b(torch.relu(s.a(x))), (torch.randn(60, 3),), a=nn.Linear(3, 4), b=nn.Linear(4, 2)
    )
    with torch.no_grad():
        model.a.weight[3] = 0.0
        model.a.bias[3] = 100.0
    pruned = sp.run(program, ["channel-prune:sparsity=0.25,criterion=entropy/bins=10"]).program
    assert (~pruned.masks["a.weight"]).any(1).tolist() == [False, False, False, True]


@pytest.mark.parametrize("bins", [1, 257])
def test_the_number_of_bins_is_bounded(bins):
    with pytest.raises(UsageError, match=rf"entropy: bins={bins} is not between 2 and 256"):
        made(f"entropy/bins={bins}")
