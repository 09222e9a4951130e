"""How far outputs are apart: one number over all data and all outputs."""

import math

import pytest
import torch
from helpers.given import parts
from helpers.models import Net
from helpers.regression import Regression
from torch import nn

import sparsify as sp
from sparsify.observation.calibration import Calibration
from sparsify.reconstruction.outputs import output_gap


class Scale(nn.Module):
    """Gives x times a number, the indices of the largest entries, and x times another number."""

    def __init__(self, one, other):
        super().__init__()
        self.one, self.other = nn.Parameter(torch.tensor(one)), nn.Parameter(torch.tensor(other))

    def forward(self, x):
        return x * self.one, (x * self.other).argmax(1), x * self.other


def scaled(x, one, other=1.0):
    return sp.capture(Scale(one, other), (x,))


X = torch.tensor([[3.0, 4.0], [0.0, 5.0]])


def test_equal_programs_are_not_apart():
    assert output_gap(scaled(X, 2.0), scaled(X, 2.0), Calibration(None)) == 0


def test_all_floating_outputs_count_together():
    # the outputs of the first have squares of 4·50 and 50, and the differences 50 and 4·50
    assert output_gap(scaled(X, 2.0), scaled(X, 1.0, 3.0), Calibration(None)) == pytest.approx(1.0)
    assert output_gap(scaled(X, 2.0), scaled(X, 1.0), Calibration(None)) == pytest.approx(math.sqrt(50 / 250))


def test_it_is_relative_to_the_first():
    one, two = scaled(X, 1.0, 1.0), scaled(X, 2.0, 2.0)
    assert output_gap(one, two, Calibration(None)) == pytest.approx(1.0)
    assert output_gap(two, one, Calibration(None)) == pytest.approx(0.5)


def test_nothing_is_not_apart_from_nothing():
    zero = scaled(X, 0.0, 0.0)
    assert output_gap(zero, zero, Calibration(None)) == 0


def test_batches_add_up():
    torch.manual_seed(0)
    x = torch.randn(7, 3)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    one, other = sp.capture(model, (x,)), sp.run(sp.capture(model, (x,)), ["weight-prune:sparsity=0.5"]).program
    in_parts, at_once = parts(x, count=3)
    gap = output_gap(one, other, Calibration(in_parts))
    assert gap == pytest.approx(output_gap(one, other, Calibration(at_once)), rel=1e-5)
    with torch.no_grad():
        a, b = one.module()(x), other.module()(x)
    assert gap == pytest.approx(float((a - b).norm() / a.norm()), rel=1e-5)


def test_no_more_batches_are_drawn_than_are_asked_for():
    program = sp.capture(nn.Linear(3, 2), (torch.randn(2, 3),))
    task = Regression(count=50)
    output_gap(program, program, Calibration(task, batches=3))
    assert task.asked == 3


def test_both_run_in_evaluation_mode():
    torch.manual_seed(0)
    program = sp.capture(Net(lambda s, x: s.d(s.l(x)), l=nn.Linear(3, 4), d=nn.Dropout(0.5)), (torch.randn(9, 3),))
    assert output_gap(program, program, Calibration(None)) == 0
