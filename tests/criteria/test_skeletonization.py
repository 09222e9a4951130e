import torch
from helpers.gates import TASK, block, block_gates, hidden
from helpers.gates import batches as drawn
from helpers.stats import block_stats, channel_stats, measure

from sparsify.blocks import blocks
from sparsify.criteria.skeletonization import Skeletonization


def test_formula():
    stats = channel_stats(3, gate_average=[1.0, -2.0, 0.0])
    assert torch.equal(Skeletonization().channel(stats), torch.tensor([-1.0, 2.0, 0.0]))


def test_a_block_is_the_sum_over_its_channels():
    assert Skeletonization().block(block_stats(gate_average=[1.0, -2.0, -4.0])) == 5.0


def test_a_block_has_the_relevance_of_one_gate():
    model, program, signal = block()
    measured = measure(program, Skeletonization.needs, TASK, signals=[signal], batches=1)
    score = Skeletonization().block(measured.of_block(blocks(program)[1], signal.size))
    torch.testing.assert_close(score, -0.2 * float(block_gates(model, drawn(1)).sum()))


def test_a_channel_whose_gate_helps_when_it_closes_comes_last():
    """Trained to be right, then one channel's outgoing weights are turned round."""
    model, program, signal = hidden()
    with torch.no_grad():
        x, _ = drawn(1)[0]
        features = torch.tanh(model.a(x))
        goal = model.b(features)
        model.b.weight[:, 2] *= -1
    task = Fixed(x, goal)
    measured = measure(program, Skeletonization.needs, task, signals=[signal], batches=1)
    scores = -measured.found["gate-average"][signal.key]
    assert int(scores.argmin()) == 2


class Fixed:
    name = "fixed"

    def __init__(self, x, goal):
        self.batch = x, goal

    def batches(self, split, *, seed=0):
        yield self.batch

    def loss(self, model, batch):
        return (model(batch[0]) - batch[1]).square().mean()
