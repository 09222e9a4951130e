import torch
from helpers.gates import TASK, batches, block, block_gates, hidden, hidden_gates
from helpers.stats import measure


def test_the_mean_of_outer_products():
    model, program, signal = hidden()
    rows = hidden_gates(model, batches(3))
    found = measure(program, ["gate-second-moment"], TASK, signals=[signal], batches=3).found["gate-second-moment"]
    assert found[signal.key].shape == (5, 5)
    torch.testing.assert_close(found[signal.key], rows.T @ rows / 3)


def test_its_diagonal_is_the_gate_square_and_both_are_measured_in_one_run():
    _, program, signal = hidden()
    found = measure(program, ["gate-second-moment", "gate-square", "gate-gradient"], TASK, signals=[signal]).found
    torch.testing.assert_close(found["gate-second-moment"][signal.key].diagonal(), found["gate-square"][signal.key])


def test_blocks():
    model, program, signal = block()
    rows = block_gates(model, batches(2))
    found = measure(program, ["gate-second-moment"], TASK, signals=[signal], batches=2).found["gate-second-moment"]
    torch.testing.assert_close(found["blocks.1"], rows.T @ rows / 2)
