import copy

import pytest
import torch
from helpers.regression import Regression
from helpers.residual import mlp, resnet, wired
from torch import nn

from sparsify.axes import axes
from sparsify.blocks import blocks
from sparsify.errors import PassError, UsageError
from sparsify.groups import groups_of
from sparsify.observation.calibration import Calibration
from sparsify.observation.signals import GroupSignal, block_signals, group_signals
from sparsify.observation.subject import Subject
from sparsify.observation.trials import Trials


def trials_of(program, task=None, whole=(), batches=8):
    found = axes(program)
    signals = [*group_signals(found, [g for g in groups_of(found) if not g.frozen]), *block_signals(program, whole)]
    return Trials(Subject(program, Calibration(task, batches), (), signals, whole))


def without_hidden(model, *closed):
    """The same MLP whose first block has lost hidden units."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.blocks[0][2].weight[:, list(closed)] = 0
    return model


def test_the_rise_of_the_loss_is_that_of_the_network_without_the_channels():
    model, program = mlp()
    task = Regression()
    batches = list(task.batches("train", seed=0))[:2]
    other = without_hidden(model, 1, 4)
    with torch.no_grad():
        expected = sum(float(task.loss(other, batch) - task.loss(model, batch)) for batch in batches) / 2
    found = trials_of(program, task, batches=2).rises([{"blocks.0.0": torch.tensor([1, 4])}, {}])
    assert found.tolist() == pytest.approx([expected, 0.0], abs=1e-6)


def test_a_mask_closes_what_its_indices_close():
    _, program = mlp()
    mask = torch.tensor([False, True, False, False, True, False])
    found = trials_of(program, Regression()).rises([{"blocks.0.0": mask}, {"blocks.0.0": torch.tensor([1, 4])}])
    assert found[0] == found[1] != 0


def test_without_a_task_it_is_the_relative_change_of_the_output():
    model, program = mlp()
    with torch.no_grad():
        whole, other = model(*program.example.args), without_hidden(model, 2)(*program.example.args)
    found = trials_of(program).rises([{"blocks.0.0": torch.tensor([2])}])
    assert float(found) == pytest.approx(float((whole - other).norm() / whole.norm()), rel=1e-5)


def test_outputs_come_with_those_of_the_whole_program():
    model, program = mlp()
    task = Regression()
    trials = [{"blocks.0.0": torch.tensor([0])}, {"blocks.0.0": torch.tensor([5])}]
    found = list(trials_of(program, task, batches=3).outputs(trials))
    assert [number for number, _, _ in found] == [0, 1] * 3
    with torch.no_grad():
        for (number, whole, other), (x, _) in zip(found[::2], task.batches("train"), strict=False):
            torch.testing.assert_close(whole, model(x))
            torch.testing.assert_close(other, without_hidden(model, [0, 5][number])(x))


def test_what_was_closed_is_open_again_even_after_an_error():
    class Fails(Regression):
        broken = False

        def loss(self, model, batch):
            loss = super().loss(model, batch)
            if self.broken:
                raise ValueError("no")
            return loss

    _, program = mlp()
    task = Fails()
    run = next(trials_of(program, task).runs())
    before = run.output
    task.broken = True
    with pytest.raises(UsageError, match="ValueError: no"):
        run.rise({"blocks.0.0": slice(None)})
    task.broken = False
    assert torch.equal(run.output_without({}), before)


def test_blocks_are_closed_as_a_whole_and_groups_channel_by_channel():
    _, program = mlp()
    whole = [block for block in blocks(program) if block.removable]
    found = trials_of(program, Regression(), whole).each(
        lambda closed: torch.arange(len(closed)) + 0.0  # a number for each, to see where it ends up
    )
    assert {key: value.shape for key, value in found.items()} == {
        "stem": (4,), "blocks.0.0": (6,), "blocks.1.0": (6,), "blocks.2.0": (6,),
        "blocks.0": (), "blocks.1": (), "blocks.2": (),
    }  # fmt: skip
    assert torch.equal(torch.cat([value.reshape(-1) for value in found.values()]), torch.arange(25.0))


def test_a_closed_block_is_a_skipped_block():
    model, program = resnet()
    block = next(block for block in blocks(program) if block.name == "layer1.1")
    task = Regression(inputs=(3, 8, 8), outputs=3)
    other = copy.deepcopy(model)
    nn.init.zeros_(other.layer1[1].bn2.weight)
    nn.init.zeros_(other.layer1[1].bn2.bias)
    x, _ = batch = next(iter(task.batches("train")))
    run = next(trials_of(program, task, [block]).runs())
    with torch.no_grad():
        torch.testing.assert_close(run.output_without({"layer1.1": slice(None)}), other(x))
        rise = float(task.loss(other, batch) - task.loss(model, batch))
    assert run.rise({"layer1.1": slice(None)}) == pytest.approx(rise, rel=1e-4)


def test_the_data_can_be_gone_through_for_ever():
    _, program = mlp()
    task = Regression()
    outputs = [run.output for run, _ in zip(trials_of(program, task, batches=2).endless(), range(5), strict=False)]
    assert torch.equal(outputs[0], outputs[2])
    assert torch.equal(outputs[1], outputs[3])
    assert not torch.equal(outputs[0], outputs[1])


def test_a_task_without_batches_is_refused():
    _, program = mlp()
    with pytest.raises(PassError, match="task regression gives no batch"):
        list(trials_of(program, Regression(count=0)).endless())


def test_a_program_without_a_floating_output_is_refused():
    _, program = wired(lambda s, x: s.b(s.a(x)).argmax(1), (torch.randn(2, 3),), a=nn.Linear(3, 4), b=nn.Linear(4, 2))
    with pytest.raises(PassError, match="no floating output"):
        next(trials_of(program).runs())


def test_what_cannot_be_seen_is_left_out():
    _, program = mlp()
    hidden = GroupSignal("nowhere", 3, [])
    assert Trials(Subject(program, Calibration(None), (), [hidden])).signals == []


def test_the_program_is_left_as_it_is():
    _, program = mlp()
    text, before = str(program), {name: value.clone() for name, value in program.parameters.items()}
    trials_of(program, Regression()).rises([{"stem": slice(None)}])
    assert str(program) == text
    assert all(torch.equal(before[name], value) for name, value in program.parameters.items())
