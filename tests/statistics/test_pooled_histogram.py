import math

import numpy as np
import pytest
import torch
from helpers.given import parts, signals
from helpers.residual import resnet, wired
from helpers.stats import measure
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sparsify.errors import PassError


class Same(nn.Module):
    """Each channel is a hidden channel as it is, so that the data of a test is what the histogram gets."""

    def __init__(self, width):
        super().__init__()
        self.a, self.b = nn.Linear(width, width), nn.Linear(width, 2)
        with torch.no_grad():
            self.a.weight.copy_(torch.eye(width))
            self.a.bias.zero_()

    def forward(self, x):
        return self.b(self.a(x))


PROGRAMS = {width: wired(lambda s, x: s.net(x), (torch.randn(2, width),), net=Same(width))[1] for width in (2, 3)}


def table(x, sizes):
    """Return counts and centres of the columns of some data that comes in batches of given sizes."""
    program = PROGRAMS[x.shape[1]]
    task, _ = parts(x[:1])
    task.given = [(part, torch.zeros(len(part), dtype=torch.int64)) for part in x.split(sizes)]
    found = measure(program, ["pooled-histogram"], task, signals=signals(program), batches=len(sizes))
    return found.found["pooled-histogram"]["net.a"]


def test_every_value_is_in_the_bin_around_it():
    x = torch.randn(400, 3) * torch.tensor([1e-6, 1.0, 1e6]) + torch.tensor([0.0, 5.0, -1e6])
    counts, centres = table(x, [7, 93, 300])
    assert counts.sum(1).tolist() == [400.0] * 3
    for column in range(3):
        seen = torch.sort(x[:, column].double()).values
        told = torch.repeat_interleave(centres[column], counts[column].long())
        width = float(seen[-1] - seen[0]) / 512
        assert float((seen - told).abs().max()) <= width / 2


def test_it_is_numpys_histogram_of_all_data():
    x = torch.cat([torch.randn(50, 2) * scale for scale in (0.01, 1.0, 30.0, 0.1)])
    counts, centres = table(x, [50] * 4)
    for column in range(2):
        edges = np.linspace(float(x[:, column].min()), float(x[:, column].max()), 11)
        expected, _ = np.histogram(x[:, column].double().numpy(), edges)
        found, _ = np.histogram(centres[column].numpy(), edges, weights=counts[column].numpy())
        assert np.abs(np.cumsum(found - expected)).max() <= 3  # values within a fine bin of an edge


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e5, 1e5, width=32), min_size=8, max_size=8), st.permutations(range(4)))
def test_the_order_of_the_batches_does_not_matter(values, order):
    x = torch.tensor(values).view(4, 2)
    one, other = table(x, [1, 1, 1, 1]), table(x[order], [2, 2])
    assert torch.equal(one, other)


def test_a_channel_that_never_changes_fills_one_bin():
    counts, centres = table(torch.full((6, 2), 0.3) * torch.tensor([1.0, 0.0]), [2, 4])
    assert counts.max(1).values.tolist() == [6.0, 6.0]
    occupied = centres[counts > 0]
    torch.testing.assert_close(occupied, torch.tensor([0.3, 0.0]).double())


def test_zeros_may_come_before_small_and_large_values():
    x = torch.tensor([[0.0, 0.0], [1e-20, 1e20], [2e-20, -1e20]])
    counts, centres = table(x, [1, 1, 1])
    torch.testing.assert_close(centres[0][counts[0] > 0], x[:, 0].double(), rtol=0, atol=2e-23)
    assert int((counts[1] > 0).sum()) == 3


def test_images_are_pooled_over_their_positions():
    model, program = resnet()
    block = model.layer1[0]
    with torch.no_grad():
        seen = block.act(block.bn1(block.conv1(model.act(model.conv1(program.example.args[0])))))
    found = measure(program, ["pooled-histogram"], None, signals=signals(program)).found["pooled-histogram"]
    counts, centres = found["layer1.0.conv1"]
    expected = seen.double().mean((2, 3)).mean(0)
    torch.testing.assert_close((counts * centres).sum(1) / counts.sum(1), expected, rtol=1e-2, atol=1e-6)  # of a bin


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_reported(value):
    x = torch.randn(6, 2)
    x[3, 1] = value
    with pytest.raises(PassError, match=r"The statistic pooled-histogram of net.a is not finite"):
        table(x, [2, 4])
