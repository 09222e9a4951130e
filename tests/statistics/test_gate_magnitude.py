import torch
from helpers.gates import TASK, batches, block, block_gates, hidden, hidden_gates
from helpers.stats import measure


def test_batches_whose_gradients_cancel_do_not_cancel_here():
    model, program, signal = hidden()
    rows = hidden_gates(model, batches(3))
    found = measure(program, ["gate-magnitude"], TASK, signals=[signal], batches=3).found["gate-magnitude"]
    torch.testing.assert_close(found[signal.key], rows.abs().mean(0))
    assert (found[signal.key] >= rows.mean(0).abs() - 1e-6).all()


def test_blocks():
    model, program, signal = block()
    found = measure(program, ["gate-magnitude"], TASK, signals=[signal], batches=2).found["gate-magnitude"]
    torch.testing.assert_close(found["blocks.1"], block_gates(model, batches(2)).abs().mean(0))
