import pytest
import torch
from helpers.gates import TASK, hidden
from helpers.stats import measure, weight_stats

from sparsify.criteria.obs import Obs
from sparsify.layout import Layout


def inputs(count=50, size=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator) @ torch.randn(size, size, generator=generator)


def test_formula_with_an_explicit_inverse():
    x = inputs()
    gram = x.T @ x / len(x)
    weight = torch.tensor([[1.0, -2.0, 0.5, 0.0], [3.0, 1.0, -1.0, 2.0]])
    damped = gram.double() + 0.01 * gram.double().diagonal().mean() * torch.eye(4)
    expected = weight.double().square() / (2 * torch.linalg.inv(damped).diagonal())
    torch.testing.assert_close(Obs().weight(weight_stats(weight, input_gram=gram[None])), expected)


def test_it_is_half_the_error_that_is_left_when_the_others_make_up_for_the_weight():
    """The damping is an error for the size of all changes, too: rows that are added to the data."""
    x = inputs(size=3).double()
    weight = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    gram = x.T @ x / len(x)
    rows = torch.cat([x / len(x) ** 0.5, (0.01 * gram.diagonal().mean()).sqrt() * torch.eye(3)])
    scores = Obs().weight(weight_stats(weight, input_gram=gram[None]))
    for index in range(3):
        others = [i for i in range(3) if i != index]
        change = torch.linalg.lstsq(rows[:, others], rows[:, index] * weight[0, index]).solution
        error = (rows[:, index] * weight[0, index] - rows[:, others] @ change).square().sum() / 2
        torch.testing.assert_close(scores[0, index], error)


def test_a_weight_that_another_can_stand_in_for_goes_before_a_smaller_one():
    x = inputs(size=3)
    x[:, 1] = x[:, 0]
    stats = weight_stats([[5.0, 5.0, 2.0]], input_gram=(x.T @ x / len(x))[None])
    assert int(Obs().weight(stats).argmax()) == 2


def test_dead_inputs_are_worth_nothing():
    x = inputs()
    x[:, 2] = 0
    scores = Obs().weight(weight_stats(torch.full((2, 4), 3.0), input_gram=(x.T @ x / len(x))[None]))
    assert torch.equal(scores == 0, torch.tensor([[False, False, True, False]] * 2))
    assert torch.equal(
        Obs().weight(weight_stats(torch.ones(2, 4), input_gram=torch.zeros(1, 4, 4))), torch.zeros(2, 4).double()
    )


def test_every_group_of_a_convolution_has_its_own_inputs():
    grams = torch.stack([torch.eye(2), 4 * torch.eye(2)])
    layout = Layout((0,), (1,), (2,), groups=2)
    scores = Obs().weight(weight_stats(torch.ones(4, 1, 2), layout=layout, input_gram=grams))
    torch.testing.assert_close(scores[2:], 4 * scores[:2])
    assert float(scores[0, 0, 0]) == pytest.approx(0.505)


def test_masked_weights_of_a_network_score_zero():
    model, program, _ = hidden()
    with torch.no_grad():
        model.a.weight[0, 1] = 0
    scores = Obs().weight(measure(program, Obs.needs, TASK, signals=[]).of_weight("a.weight"))
    assert scores.shape == (5, 3)
    assert int((scores == 0).sum()) == 1
