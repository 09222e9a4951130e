"""Scores of weights: in pieces as in one, layer by layer, without what is gone."""

import weakref
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from helpers.models import Net
from helpers.regression import Regression
from torch import nn

import sparsify as sp
from sparsify.criteria import Criterion
from sparsify.errors import PassError
from sparsify.masking import masked
from sparsify.observation.calibration import Calibration
from sparsify.pruning import weight_scores as module
from sparsify.pruning.choice import made
from sparsify.pruning.weight_scores import dense_scores, weight_scores

NAMES = ["0.weight", "2.weight"]


def program_of(width=6):
    torch.manual_seed(0)
    return sp.capture(nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2)), (torch.randn(4, 3),))


def scores(program, criterion="magnitude", gone=None, names=NAMES, task=None):
    criterion = made(criterion) if isinstance(criterion, str) else criterion
    found = weight_scores(program, names, criterion, Calibration(task), gone or {})
    return {item.name: dense_scores(item, program.parameters[item.name].shape) for item in found}


def mask_of(program, name="0.weight", seed=0):
    shape = program.parameters[name].shape
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) > 0.4


def test_every_weight_has_its_score():
    program = program_of()
    found = scores(program)
    assert list(found) == NAMES
    for name, value in found.items():
        assert torch.equal(value, program.parameters[name].detach().abs())


@pytest.mark.parametrize("criterion", ["magnitude", "snip", "wanda", "taylor", "random", "lamp"])
def test_pieces_are_the_whole(criterion, monkeypatch):
    program, task = program_of(), Regression()
    whole = scores(program, criterion, task=task)
    monkeypatch.setattr(module, "_PIECE", 4)
    pieces = scores(program, criterion, task=task)
    assert all(torch.equal(value, pieces[name]) for name, value in whole.items())


def test_pieces_are_counted_and_come_again(monkeypatch):
    monkeypatch.setattr(module, "_PIECE", 6)
    program = program_of(5)
    item, _ = weight_scores(program, NAMES, made("magnitude"), Calibration(None), {})
    assert item.count == 15
    assert [len(piece) for piece in item.pieces()] == [6, 6, 3]
    assert [len(piece) for piece in item.pieces()] == [6, 6, 3]


@pytest.mark.parametrize("piece", [1 << 20, 4])
@pytest.mark.parametrize("criterion", ["magnitude", "lamp"])
def test_what_is_gone_scores_minus_infinity(criterion, piece, monkeypatch):
    monkeypatch.setattr(module, "_PIECE", piece)
    program = program_of()
    mask = mask_of(program)
    found = scores(masked(program, {"0.weight": mask}), criterion, {"0.weight": mask})
    assert torch.equal(found["0.weight"].isneginf(), ~mask)
    assert torch.isfinite(found["2.weight"]).all()


def test_masked_weights_that_are_not_gone_have_a_score():
    program = program_of()
    mask = mask_of(program)
    found = scores(masked(program, {"0.weight": mask}))["0.weight"]
    assert torch.equal(found, torch.where(mask, program.parameters["0.weight"].detach().abs(), 0.0))


@dataclass(frozen=True)
class Returning(Criterion):
    """|θ| + |g|; weights may return."""

    needs: ClassVar[tuple[str, ...]] = ("gradient",)
    regrow: ClassVar[bool] = True

    def weight(self, stats):
        return stats.weight.detach().abs() + stats["gradient"].abs()


def test_weights_that_may_return_keep_their_own_values_and_get_the_statistics_of_the_pruned_program():
    program, task = program_of(), Regression()
    mask = mask_of(program)
    pruned = masked(program, {"0.weight": mask})
    found = scores(pruned, Returning(), task=task)["0.weight"]
    own = program.parameters["0.weight"].detach().abs()
    model = program.module()
    weight = dict(model.named_parameters())["0.weight"]
    weight.data *= mask
    sum(task.loss(model, batch) for batch in task.batches("train", seed=0)).div(4).backward()
    assert (weight.grad[~mask] != 0).any()  # the loss would change if they returned
    torch.testing.assert_close(found - own, weight.grad.abs(), rtol=1e-4, atol=1e-6)  # another order of summation


def test_what_was_gone_before_does_not_return():
    program, task = program_of(), Regression()
    before, now = mask_of(program), mask_of(program) & mask_of(program, seed=1)
    found = scores(masked(program, {"0.weight": now}), Returning(), {"0.weight": before}, task=task)["0.weight"]
    assert torch.equal(found.isneginf(), ~before)
    assert (before & ~now).any()


@pytest.mark.parametrize("criterion", ["snip", "wanda"])
def test_what_does_not_fit_the_budget_takes_several_runs_over_the_same_data(criterion, monkeypatch):
    program, task = program_of(), Regression()
    whole = scores(program, criterion, task=task)
    once = task.asked
    monkeypatch.setattr(module, "BUDGET", 1)
    task = Regression()
    parts = scores(program, criterion, task=task)
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    if criterion == "snip":
        assert task.asked == 2 * once


def test_scores_come_in_float32_or_float64():
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)).bfloat16()
    program = sp.capture(model, (torch.randn(4, 3).bfloat16(),))
    assert scores(program)["0.weight"].dtype == torch.float32
    assert scores(program, "lamp")["0.weight"].dtype == torch.float64


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("criterion", ["magnitude", "lamp"])
def test_a_score_that_is_not_finite_names_the_layer(value, criterion):
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
    program = sp.capture(model, (torch.randn(4, 3),))
    with torch.no_grad():
        program.parameters["2.weight"][1, 4] = value
    with pytest.raises(PassError, match=r"The score of 2\.weight is not finite\. Check the weights"):
        scores(program, criterion)


def test_large_finite_scores_are_fine():
    program = program_of()
    with torch.no_grad():
        program.parameters["2.weight"].fill_(3e38)  # their sum is not finite
    assert (scores(program)["2.weight"] > 2e38).all()


def test_a_statistic_that_is_not_there_is_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.GRU(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.rnn(x)[0])

    program = sp.capture(Net(), (torch.randn(5, 2, 3),), dynamic_batch=False)
    with pytest.raises(PassError, match=r"no score for rnn\.weight_hh_l0: .*protect=rnn\.weight_hh_l0"):
        scores(program, "wanda", names=["rnn.weight_hh_l0", "head.weight"])


def test_a_frozen_parameter_has_no_gradient():
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
    model[2].weight.requires_grad_(False)
    program = sp.capture(model, (torch.randn(4, 3),))
    with pytest.raises(PassError, match=r"no score for 2\.weight: frozen .*protect=2\.weight,"):
        scores(program, "snip", task=Regression())
    assert set(scores(program, "snip", names=["0.weight"], task=Regression())) == {"0.weight"}


def test_a_parameter_without_dimensions_has_a_score():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.line = nn.Parameter(torch.tensor(-2.0)), nn.Linear(3, 2)

        def forward(self, x):
            return self.line(x) * self.scale

    program = sp.capture(Scaled(), (torch.randn(4, 3),))
    assert scores(program, names=["scale", "line.weight"])["scale"].tolist() == 2.0


def test_statistics_are_let_go_before_those_of_the_next_run_come(monkeypatch):
    refs, alive = [], []

    def collect(subject, needs):
        subject.calibration.known.clear()
        alive.append([ref() is not None for ref in refs])
        found = module_collect(subject, needs)
        refs.extend(weakref.ref(value) for value in found.found["input-gram"].values())
        return found

    module_collect = module.collect
    monkeypatch.setattr(module, "collect", collect)
    monkeypatch.setattr(module, "BUDGET", 1)
    kept = list(weight_scores(program_of(), NAMES, made("obs"), Calibration(None), {}))
    assert alive == [[], [False]]
    assert [item.count for item in kept] == [18, 12]


def test_weights_without_a_score_are_named_together_with_what_to_do():
    torch.manual_seed(0)
    model = Net(lambda self, x: self.head(self.rnn(x)[0]), rnn=nn.LSTM(3, 4, 2), head=nn.Linear(4, 2))
    program = sp.capture(model, (torch.randn(5, 2, 3),))
    with pytest.raises(PassError, match=r"weight_ih_l0, rnn.weight_hh_l0, rnn.weight_ih_l1 and 1 more: .*recurrent"):
        sp.run(program, ["weight-prune:sparsity=0.5,criterion=wanda"])
    with pytest.raises(PassError, match=r"protect=rnn, or take another criterion"):
        sp.run(program, ["weight-prune:sparsity=0.5,criterion=obs"])
    sp.run(program, ["weight-prune:sparsity=0.5,criterion=wanda,protect=rnn"])


def test_a_copy_of_a_masked_weight_lasts_as_long_as_its_scores_are_read():
    program = masked(program_of(), {name: mask_of(program_of(), name) for name in NAMES})
    seen = weakref.WeakSet()

    class Looking(Criterion):
        elementwise: ClassVar[bool] = True

        def weight(self, stats):
            seen.add(stats.weight)
            return stats.weight.abs()

    found = list(weight_scores(program, NAMES, Looking(), Calibration(None), {}))
    assert not seen
    for item in found:
        first, again = (torch.cat(list(item.pieces())) for _ in range(2))
        assert torch.equal(first, again)
    assert not seen
