import torch
from helpers.gates import TASK, batches, hidden, hidden_gates
from helpers.stats import measure


def test_weights_and_channels_in_one_run():
    model, program, signal = hidden()
    found = measure(program, ["sensitivity", "gradient"], TASK, signals=[signal], batches=2).found
    torch.testing.assert_close(found["sensitivity"][signal.key], hidden_gates(model, batches(2)).mean(0))
    for name, weight in model.named_parameters():
        torch.testing.assert_close(found["sensitivity"][name], found["gradient"][name] * weight.detach())


def test_the_factor_of_a_weight_by_differences():
    model, program, _ = hidden()
    found = measure(program, ["sensitivity"], TASK, signals=[], batches=2).found["sensitivity"]["b.weight"]
    model = model.double()
    data = [(x.double(), y.double()) for x, y in batches(2)]
    losses = []
    for factor in (1 + 1e-4, 1 - 1e-4):
        with torch.no_grad():
            model.b.weight[1, 2] *= factor
            losses.append(sum(float(TASK.loss(model, batch)) for batch in data) / 2)
            model.b.weight[1, 2] /= factor
    torch.testing.assert_close(float(found[1, 2]), (losses[0] - losses[1]) / 2e-4, rtol=1e-3, atol=1e-6)


def test_channels_alone():
    _, program, signal = hidden()
    alone = measure(program, ["gate-gradient"], TASK, signals=[signal]).found["gate-gradient"][signal.key]
    both = measure(program, ["sensitivity"], TASK, signals=[signal]).found["sensitivity"][signal.key]
    torch.testing.assert_close(both, alone)
