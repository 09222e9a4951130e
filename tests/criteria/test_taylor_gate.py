import torch
from helpers.gates import TASK, hidden
from helpers.stats import block_stats, channel_stats, measure

from sparsify.criteria.taylor_gate import TaylorGate


def test_formula():
    stats = channel_stats(2, gate_square=[4.0, 0.25])
    assert torch.equal(TaylorGate().channel(stats), torch.tensor([4.0, 0.25]))


def test_a_block_is_the_sum():
    assert TaylorGate().block(block_stats(gate_square=[4.0, 0.25])) == 4.25


def test_a_channel_that_helps_some_batches_and_harms_others_is_not_useless():
    _, program, signal = hidden()
    found = measure(program, [*TaylorGate.needs, "gate-gradient"], TASK, signals=[signal], batches=3).found
    square, mean = found["gate-square"][signal.key], found["gate-gradient"][signal.key]
    assert (square > mean.square()).all()


def test_a_dead_channel_comes_last():
    model, program, signal = hidden()
    with torch.no_grad():
        model.a.weight[1], model.a.bias[1] = 0, 0
    found = measure(program, TaylorGate.needs, TASK, signals=[signal]).found["gate-square"][signal.key]
    assert int(found.argmin()) == 1
    assert found[1] == 0
