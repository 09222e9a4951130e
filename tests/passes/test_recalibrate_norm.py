"""recalibrate-norm: norms get the statistics of what reaches them now, and nothing else changes."""

import copy

import pytest
import torch
from helpers.residual import settled
from helpers.trained import trained_digits
from torch import nn

import sparsify as sp
from sparsify.demo_net import digits_resnet
from sparsify.errors import PassError, UsageError
from sparsify.masking import unmasked
from sparsify.observation.calibration import Calibration
from sparsify.reconstruction.outputs import output_gap
from sparsify.tasks.digits import Digits

GOLDEN = """
%input_1: float32[batch, 3] = input
%linear: float32[batch, 4] = linear(%input_1, 0.weight, 0.bias)
%add_: int64[] = add_.Tensor(1.num_batches_tracked, 1)
%batch_norm: float32[batch, 4] = batch_norm(%linear, 1.weight, 1.bias, 1.running_mean, 1.running_var, True, 0.1, 1e-05, False)
%linear_1: float32[batch, 2] = linear(%batch_norm, 2.weight, 2.bias)
return [%linear_1]
"""  # noqa: E501
TASK = Digits()


def net():
    torch.manual_seed(0)
    return settled(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)))


def done(program, options="", task=None, **more):
    result = sp.run(program, [f"recalibrate-norm:{options}".rstrip(":")], task=task, **more)
    return result.program, result.report["passes"][0]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return trained_digits(tmp_path_factory)


def accuracy(program):
    return TASK.score(program.module()).value


def test_the_graph_stays_and_only_the_statistics_change():
    x = torch.randn(20, 3) + 2
    before = sp.capture(net(), (x,))
    program, record = done(before)
    assert str(program) == str(before) == GOLDEN.strip()
    assert all(value is before.parameters[name] for name, value in program.parameters.items())
    changed = {name for name, value in program.buffers.items() if not torch.equal(value, before.buffers[name])}
    assert changed == {"1.running_mean", "1.running_var"}
    assert torch.equal(before.buffers["1.running_mean"], net()[1].running_mean)
    assert record["norms"] == 1
    with torch.no_grad():
        a, b = before.module()(x), program.module()(x)
    assert record["output_moved"] == pytest.approx(float((a - b).norm() / a.norm()), rel=1e-4)


def test_one_batch_gives_what_torch_estimates():
    x = torch.randn(20, 3) + 2
    program, _ = done(sp.capture(net(), (x,)))
    model = net().train()
    model[1].reset_running_stats()
    model[1].momentum = None
    model(x)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(program.buffers[f"1.{name}"], getattr(model[1], name), rtol=1e-5, atol=1e-6)


def test_many_batches_give_torchs_means(digits):
    program, _ = done(digits, "batches=21", task=TASK)
    model = copy.deepcopy(digits_resnet()).train()
    model.load_state_dict(digits.module().state_dict(), strict=False)
    model.bn1.reset_running_stats()
    model.bn1.momentum = None
    with torch.no_grad():
        for (x, _), _ in zip(TASK.batches("train", seed=0), range(21), strict=False):
            assert len(x) == 64  # batches of one size: only then is the mean of means the mean
            model(x)
    # float32 means of 21 batches against sums in float64
    torch.testing.assert_close(program.buffers["bn1.running_mean"], model.bn1.running_mean, rtol=1e-4, atol=1e-5)
    # torch averages the variances inside the batches, which leaves out what is between them
    torch.testing.assert_close(program.buffers["bn1.running_var"], model.bn1.running_var, rtol=0.02, atol=0)


@pytest.mark.parametrize("prune", ["weight-prune:sparsity=0.9", "channel-prune:sparsity=0.5"])
def test_a_pruned_network_is_brought_back(digits, prune):
    before = sp.run(digits, [prune]).program
    program, _ = done(before, "batches=8", task=TASK)
    whole, data = unmasked(before), Calibration(TASK, 4)
    assert output_gap(whole, program, data) < 0.8 * output_gap(whole, before, data)
    assert accuracy(program) > accuracy(before) + 0.1
    assert all(torch.equal(mask, before.masks[name]) for name, mask in program.masks.items())


def test_shrinking_afterwards_is_exact(digits):
    result = sp.run(digits, ["channel-prune:sparsity=0.5", "recalibrate-norm:batches=4", "shrink"], task=TASK)
    assert not result.program.masks
    assert result.report["passes"][2]["largest_difference"] <= 1e-5
    assert result.program.parameters["layer1.0.conv1.weight"].shape[0] == 8


def test_after_shrinking_it_gives_the_same(digits):
    pruned = sp.run(digits, ["channel-prune:sparsity=0.5"]).program
    one = sp.run(pruned, ["recalibrate-norm:batches=2", "shrink"], task=TASK).program
    other = sp.run(pruned, ["shrink", "recalibrate-norm:batches=2"], task=TASK).program
    for name, value in one.buffers.items():
        torch.testing.assert_close(value, other.buffers[name], rtol=1e-3, atol=1e-4)  # convolutions of other widths


def test_twice_is_the_same_and_a_second_time_changes_nothing(digits):
    (one, _), (two, _) = (done(digits, "batches=2", task=TASK) for _ in range(2))
    again, record = done(one, "batches=2", task=TASK)
    for name, value in one.buffers.items():
        assert torch.equal(value, two.buffers[name])
        assert torch.equal(value, again.buffers[name])
    assert record["output_moved"] == 0


def test_without_norms_there_is_nothing_to_do():
    for model in (nn.Linear(3, 2), nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)),
                  nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False))):  # fmt: skip
        with pytest.raises(PassError, match="has no batch norm with running statistics"):
            done(sp.capture(model.eval(), (torch.randn(4, 3),)))


def test_random_inputs_are_no_data():
    program = sp.capture(net(), (torch.randn(4, 3),))
    program = program.with_example(program.example.args, {}, synthetic=True)
    with pytest.raises(PassError, match="pass recalibrate-norm needs data, and the example inputs are random"):
        done(program)


def test_one_value_for_each_channel_is_refused():
    with pytest.raises(PassError, match="one value for each channel"):
        done(sp.capture(net(), (torch.randn(1, 3),)))


def test_no_batches_are_refused():
    with pytest.raises(UsageError, match="batches=0 is less than 1"):
        done(sp.capture(net(), (torch.randn(4, 3),)), "batches=0")
