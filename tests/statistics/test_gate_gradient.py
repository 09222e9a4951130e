import torch
from helpers.gates import TASK, batches, block, block_gates, hidden, hidden_gates
from helpers.stats import measure


def test_the_mean_over_batches_of_the_gradient_of_a_gate_behind_the_activation():
    model, program, signal = hidden()
    found = measure(program, ["gate-gradient"], TASK, signals=[signal], batches=3).found["gate-gradient"]
    torch.testing.assert_close(found[signal.key], hidden_gates(model, batches(3)).mean(0))


def test_two_batches_count_alike():
    model, program, signal = hidden()
    found = measure(program, ["gate-gradient"], TASK, signals=[signal], batches=2).found["gate-gradient"]
    one, two = hidden_gates(model, batches(2))
    torch.testing.assert_close(found[signal.key], (one + two) / 2)


def test_a_block_has_gates_on_what_it_adds():
    model, program, signal = block()
    found = measure(program, ["gate-gradient"], TASK, signals=[signal], batches=2).found["gate-gradient"]
    torch.testing.assert_close(found["blocks.1"], block_gates(model, batches(2)).mean(0))


def test_frozen_weights_have_gates_too():
    model, program, signal = hidden()
    expected = hidden_gates(model, batches(1))[0]
    model.requires_grad_(False)
    found = measure(program, ["gate-gradient"], TASK, signals=[signal], batches=1).found["gate-gradient"]
    torch.testing.assert_close(found[signal.key], expected)


def test_without_groups_or_blocks_there_is_nothing():
    _, program, _ = hidden()
    assert measure(program, ["gate-gradient"], TASK, signals=[]).found["gate-gradient"] == {}
