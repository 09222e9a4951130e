import torch
from helpers.gates import TASK, hidden
from helpers.stats import channel_stats, measure

from sparsify.criteria.taylor_activation import TaylorActivation


def test_formula():
    scores = TaylorActivation().channel(channel_stats(3, gate_magnitude=[3.0, 0.0, 4.0]))
    torch.testing.assert_close(scores, torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64))


def test_groups_compare_whatever_the_size_of_their_gradients():
    small, large = (TaylorActivation().channel(channel_stats(2, gate_magnitude=[s, 2 * s])) for s in (1e-9, 1e9))
    torch.testing.assert_close(small, large)


def test_a_group_without_any_gradient_has_scores():
    assert torch.equal(TaylorActivation().channel(channel_stats(2, gate_magnitude=[0.0, 0.0])).float(), torch.zeros(2))


def test_a_channel_that_nobody_reads_comes_last():
    model, program, signal = hidden()
    with torch.no_grad():
        model.b.weight[:, 3] = 0
    found = measure(program, TaylorActivation.needs, TASK, signals=[signal]).found["gate-magnitude"][signal.key]
    scores = TaylorActivation().channel(channel_stats(5, gate_magnitude=found))
    assert int(scores.argmin()) == 3
    assert scores[3] == 0
