import math
import weakref
from dataclasses import replace

import pytest
import torch
from helpers.regression import Regression
from helpers.residual import lines, mlp, resnet, wired
from helpers.stats import measure
from torch import nn

from sparsify.blocks import blocks
from sparsify.errors import PassError
from sparsify.measuring import collect
from sparsify.observation.calibration import Calibration
from sparsify.observation.subject import Subject

EVERYTHING = ("gradient", "hessian-gradient", "influence", "damage")


def tensors(program):
    return {name: value.clone() for name, value in {**program.parameters, **program.buffers}.items()}


def test_the_gradient_is_the_mean_over_the_batches():
    model, program = mlp()
    task = Regression(count=5)
    found = measure(program, ["gradient"], task, batches=3, seed=7)
    batches = [batch for _, batch in zip(range(3), task.batches("train", seed=7), strict=False)]
    loss = sum(task.loss(model, batch) for batch in batches) / 3
    for (name, _), expected in zip(
        model.named_parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
    ):
        torch.testing.assert_close(found.found["gradient"][name], expected)
    assert "hessian-gradient" not in found.found


def test_what_was_not_asked_for_is_not_there():
    _, program = mlp()
    found = measure(program, ["hessian-gradient"], Regression())
    assert "gradient" not in found.found
    assert "gradient" not in found.of_weight("head.weight").found
    assert found.of_weight("head.weight")["hessian-gradient"].shape == (2, 4)


def test_the_program_is_left_as_it_is():
    _, program = resnet()
    before, text = tensors(program), str(program)
    task = Regression(inputs=(3, 8, 8), outputs=3)
    measure(program, EVERYTHING, task, blocks=[b for b in blocks(program) if b.removable])
    after = tensors(program)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert str(program) == text
    assert all(parameter.grad is None for parameter in program.parameters.values())


def test_running_statistics_are_used_and_dropout_is_off():
    _, program = wired(lambda s, x: s.b(s.drop(s.norm(s.a(x)))), (torch.randn(2, 3),), a=nn.Linear(3, 4),
                       norm=nn.BatchNorm1d(4), drop=nn.Dropout(0.5), b=nn.Linear(4, 2))  # fmt: skip
    one, two = (measure(program, ["gradient"], Regression()) for _ in range(2))
    assert all(torch.equal(one.found["gradient"][name], two.found["gradient"][name]) for name in one.found["gradient"])


class Watched(Regression):
    """Counts how many of its batches are alive at once."""

    def batches(self, split, *, seed=0):
        self.alive, self.most = set(), 0
        for x, y in super().batches(split, seed=seed):
            key = id(x)
            self.alive.add(key)
            weakref.finalize(x, self.alive.discard, key)
            self.most = max(self.most, len(self.alive))
            yield x, y


@pytest.mark.parametrize("need", EVERYTHING)
def test_batches_are_not_kept(need):
    _, program = mlp()
    task = Watched(count=8)
    measure(program, [need], task, batches=8, blocks=blocks(program))
    assert task.most <= 3  # the one in use, the one before it until its name is bound again, and the generator's


def test_no_more_batches_are_drawn_than_are_used():
    _, program = mlp()
    task = Regression(count=100)
    measure(program, ["gradient"], task, batches=2)
    assert task.asked == 2


def test_influence_of_an_image_block_is_taken_over_the_whole_example():
    model, program = resnet()
    x = program.example.args[0]
    found = measure(program, ["influence"], None, blocks=blocks(program)[:1])
    with torch.no_grad():
        before = model.act(model.conv1(x))
        block = model.layer1[0]
        after = before + block.bn2(block.conv2(block.act(block.bn1(block.conv1(before)))))
    expected = (1 - nn.functional.cosine_similarity(before.flatten(1), after.flatten(1))).mean()
    assert found.found["influence"]["layer1.0"] == pytest.approx(float(expected), rel=1e-4)  # float32 against float64


class DropPath(nn.Module):
    def forward(self, x):
        return x.div(0.9) * (0.9 + torch.rand(len(x), 1)).floor() if self.training else x


def test_influence_behind_noise_that_exists_in_training_only():
    x = torch.randn(2, 4)
    model, program = wired(lambda s, x: s.c((y := s.drop(s.a(x))) + s.b(y)), (x,), drop=DropPath(), **lines(n=3))
    (block,) = blocks(program)
    with torch.no_grad():
        before = model.a(x)
        expected = (1 - nn.functional.cosine_similarity(before, before + model.b(before))).mean()
    found = measure(program, ["influence"], None, blocks=[block])
    assert found.found["influence"]["b"] == pytest.approx(float(expected), rel=1e-4)  # float32 against float64


def test_nan_in_the_data_names_the_statistic_and_the_parameter():
    _, program = mlp()
    with pytest.raises(PassError, match=r"The statistic gradient of \S+ is not finite. Check the data"):
        measure(program, ["gradient"], Regression(poison=True))


def test_nan_in_a_weight_is_found_in_what_depends_on_it():
    _, program = mlp()
    broken = {**program.parameters, "blocks.1.0.bias": nn.Parameter(torch.full((6,), math.nan))}
    with pytest.raises(PassError, match=r"The statistic influence of blocks.1 is not finite"):
        measure(replace(program, parameters=broken), ["influence"], None, blocks=blocks(program)[1:2])


def test_frozen_parameters_have_no_gradient_and_a_score_of_none():
    model, program = mlp()
    model.stem.requires_grad_(False)
    found = measure(program, ["gradient"], Regression())
    assert "stem.weight" not in found.found["gradient"]
    assert found.of_weight("head.weight")["gradient"] is not None


def test_block_statistics_hold_the_matrices_of_the_block():
    _, program = mlp()
    found = measure(program, [], None, seed=3)
    stats = found.of_block(blocks(program)[0])
    assert [tuple(item.weight.shape) for item in stats.weights] == [(6, 4), (4, 6)]
    assert stats.found == {}


def test_what_was_measured_is_not_measured_again():
    _, program = mlp()
    task = Regression(count=3)
    calibration = Calibration(task, batches=3)
    subject = Subject(program, calibration, list(program.parameters))
    first = collect(subject, ["gradient"])
    asked = task.asked
    both = collect(subject, ["gradient", "input-norm"])
    assert task.asked == 2 * asked
    assert both.found["gradient"] is first.found["gradient"]
    assert "input-norm" not in first.found
    other = collect(subject.only(["head.weight"]), ["gradient"])
    assert other.found["gradient"].keys() == {"head.weight"}
    assert task.asked == 3 * asked


def test_needs_of_several_criteria_take_one_run():
    _, program = mlp()
    task = Regression(count=3)
    collect(Subject(program, Calibration(task, batches=3), list(program.parameters)), ["gradient", "input-norm"])
    assert task.asked == 3
