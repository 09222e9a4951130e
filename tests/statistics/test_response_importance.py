import torch
from helpers.given import signals
from helpers.residual import resnet, wired
from helpers.stats import measure
from torch import nn

import sparsify as sp
from sparsify.masking import masked


def importance(program):
    return measure(program, ["response-importance"], signals=signals(program)).found["response-importance"]


def proportional(found, expected):
    expected = expected.detach().double()
    torch.testing.assert_close(found / found.sum(), expected / expected.sum(), rtol=1e-6, atol=0)  # float32 weights


def net():
    return wired(
        lambda s, x: s.c(torch.tanh(s.b(torch.relu(s.a(x))))), (torch.randn(2, 3),),
        a=nn.Linear(3, 6), b=nn.Linear(6, 4), c=nn.Linear(4, 2),
    )  # fmt: skip


def test_it_goes_back_through_the_absolute_weights_of_all_layers():
    model, program = net()
    of_b = model.c.weight.abs().sum(0)
    found = importance(program)
    proportional(found["b"], of_b)
    proportional(found["a"], model.b.weight.abs().T @ of_b)


def test_what_comes_before_a_channel_does_not_count():
    model, program = net()
    before = importance(program)
    with torch.no_grad():
        model.a.weight[2] *= 1000
    torch.testing.assert_close(importance(program)["a"], before["a"])


def test_all_readers_count():
    model, program = wired(
        lambda s, x: s.b(torch.relu(y := s.a(x))) + s.c(y), (torch.randn(2, 3),),
        a=nn.Linear(3, 6), b=nn.Linear(6, 2), c=nn.Linear(6, 2),
    )  # fmt: skip
    proportional(importance(program)["a"], model.b.weight.abs().sum(0) + model.c.weight.abs().sum(0))


def test_positions_of_images_are_added_up():
    model, program = wired(
        lambda s, x: s.b(torch.relu(s.a(x))).sum((2, 3)), (torch.randn(2, 3, 6, 6),),
        a=nn.Conv2d(3, 5, 3), b=nn.Conv2d(5, 2, 4),
    )  # fmt: skip
    proportional(importance(program)["a"], model.b.weight.abs().sum((0, 2, 3)))


def test_norms_multiply_by_their_absolute_scale():
    model, program = resnet()
    before = importance(program)["layer1.0.conv1"]
    with torch.no_grad():
        model.layer1[0].bn2.weight.mul_(-3.0)
    torch.testing.assert_close(importance(program)["layer1.0.conv1"], 3 * before)


def test_masked_weights_carry_nothing_back():
    _, program = net()
    mask = torch.ones(2, 4, dtype=torch.bool)
    mask[:, 1] = False
    assert importance(masked(program, {"c.weight": mask}))["b"].tolist()[1] == 0.0


def test_the_data_does_not_matter():
    model, program = net()
    other = sp.capture(model, (torch.full((2, 3), 7.0),))
    assert torch.equal(importance(program)["a"], importance(other)["a"])
