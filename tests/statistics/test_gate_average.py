import torch
from helpers.gates import TASK, batches, block, block_gates, hidden, hidden_gates
from helpers.stats import measure


def averaged(rows):
    value = torch.zeros_like(rows[0])
    for row in rows:
        value = 0.8 * value + 0.2 * row
    return value


def test_every_batch_moves_the_average_by_a_fifth():
    model, program, signal = hidden()
    found = measure(program, ["gate-average"], TASK, signals=[signal], batches=3).found["gate-average"]
    torch.testing.assert_close(found[signal.key], averaged(hidden_gates(model, batches(3))))


def test_later_batches_count_more():
    model, program, signal = hidden()
    one, two = hidden_gates(model, batches(2))
    found = measure(program, ["gate-average"], TASK, signals=[signal], batches=2).found["gate-average"]
    torch.testing.assert_close(found[signal.key], 0.16 * one + 0.2 * two)


def test_blocks():
    model, program, signal = block()
    found = measure(program, ["gate-average"], TASK, signals=[signal], batches=2).found["gate-average"]
    torch.testing.assert_close(found["blocks.1"], averaged(block_gates(model, batches(2))))
