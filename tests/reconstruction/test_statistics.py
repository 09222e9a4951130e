"""Statistics of batch norms, against torch's own and against the values themselves."""

import copy

import pytest
import torch
from helpers.given import parts
from helpers.models import Net
from helpers.residual import settled
from torch import nn

import sparsify as sp
from sparsify.errors import PassError
from sparsify.norms import batch_norms
from sparsify.observation.calibration import Calibration
from sparsify.reconstruction.statistics import batch_statistics

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32 running means against float64 sums


def two_norms():
    torch.manual_seed(0)
    return settled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1),
                                 nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(180, 2)))  # fmt: skip


def found_in(model, x, task=None):
    program = sp.capture(model, (x,))
    norms = batch_norms(program)
    return [(mean, variance) for _, mean, variance in batch_statistics(program, norms, Calibration(task))]


def by_torch(model, batches):
    """Let torch estimate: a cumulative average over batches in training mode."""
    model = copy.deepcopy(model).train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        for batch in batches:
            model(batch)
    return [(norm.running_mean, norm.running_var) for norm in norms]


def test_one_batch_gives_what_torch_gives_for_every_norm():
    x = torch.randn(6, 3, 8, 8) + 1
    model = two_norms()
    for found, expected in zip(found_in(model, x), by_torch(model, [x]), strict=True):
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine.float(), theirs, **CLOSE)


@pytest.mark.parametrize("shape", [(5,), (5, 7)])
def test_features_and_sequences(shape):
    torch.manual_seed(0)
    x = torch.randn(9, *shape) * 3
    model = settled(Net(lambda s, x: s.norm(x).flatten(1), norm=nn.BatchNorm1d(5)))
    ((mean, variance),) = found_in(model, x)
    values = x.transpose(0, 1).flatten(1)
    torch.testing.assert_close(mean.float(), values.mean(1), **CLOSE)
    torch.testing.assert_close(variance.float(), values.var(1), **CLOSE)


def test_means_of_equal_batches_are_torchs_and_variances_those_of_all_values():
    x = torch.randn(12, 3, 8, 8) + torch.randn(12, 1, 1, 1)
    model = two_norms()
    found = found_in(model, x, parts(x, count=3)[0])
    for mine, theirs in zip(found, by_torch(model, x.chunk(3)), strict=True):
        torch.testing.assert_close(mine[0].float(), theirs[0], **CLOSE)
    with torch.no_grad():
        values = model[0](x).transpose(0, 1).flatten(1)
    torch.testing.assert_close(found[0][1].float(), values.var(1), **CLOSE)


def test_batches_of_different_size_count_by_their_values():
    x = torch.randn(10, 3, 8, 8) + torch.randn(10, 1, 1, 1)
    task, _ = parts(x, count=2)
    task.given = [(part, torch.zeros(len(part), dtype=torch.int64)) for part in (x[:2], x[2:])]
    (mean, _), _ = found_in(two_norms(), x, task)
    with torch.no_grad():
        expected = two_norms()[0](x).mean((0, 2, 3))
    torch.testing.assert_close(mean.float(), expected, **CLOSE)


def test_the_program_is_left_as_it_is():
    program = sp.capture(two_norms(), (torch.randn(4, 3, 8, 8),))
    before = {name: value.clone() for name, value in program.buffers.items()}
    list(batch_statistics(program, batch_norms(program), Calibration(None)))
    assert all(torch.equal(value, before[name]) for name, value in program.buffers.items())


def test_a_single_value_has_no_variance():
    model = settled(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)))
    with pytest.raises(PassError, match=r"one value for each channel.*Give more data"):
        found_in(model, torch.randn(1, 3))


def test_a_batch_of_one_value_counts_among_others():
    torch.manual_seed(0)
    x = torch.randn(5, 3)
    task, _ = parts(x, count=2)
    task.given = [(part, torch.zeros(len(part), dtype=torch.int64)) for part in (x[:4], x[4:])]
    model = settled(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)))
    ((mean, variance),) = found_in(model, x, task)
    torch.testing.assert_close(mean.float(), x.mean(0), **CLOSE)
    torch.testing.assert_close(variance.float(), x.var(0), **CLOSE)
