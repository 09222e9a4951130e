import copy

import pytest
import torch
from helpers.command import example, small_program, small_resnet
from torch import nn

import sparsify as sp
from sparsify.differences import differences
from sparsify.modules import Side


@pytest.fixture(scope="module")
def program():
    return small_program()


def test_a_model_and_itself_differ_in_nothing(program):
    found = differences(program, program)
    assert (found.modules, found.gap, found.equal) == ([], 0, True)
    assert found.same == len({name.rpartition(".")[0] for name in program.parameters})


def test_a_removed_block_is_gone(program):
    found = differences(program, sp.run(program, ["layer-prune:blocks=layer2.1"]).program)
    assert {item.module for item in found.modules} == {f"layer2.1.{part}" for part in ("conv1", "bn1", "conv2", "bn2")}
    assert all(item.after is None and item.moved is None for item in found.modules)
    conv = next(item for item in found.modules if item.module == "layer2.1.conv1")
    assert conv.before == Side((8, 8, 3, 3), 576, 576, 576 * 16)
    assert found.gap > 1e-3
    assert not found.equal
    back = differences(sp.run(program, ["layer-prune:blocks=layer2.1"]).program, program)
    assert all(item.before is None for item in back.modules)
    text = [item.module for item in back.modules]
    assert text == [item.module for item in found.modules]


def test_masks_are_zeros_and_values_have_moved(program):
    pruned = sp.run(program, ["weight-prune:sparsity=0.5,only=layer1.0.conv1*"]).program
    (item,) = differences(program, pruned).modules
    weight = program.parameters["layer1.0.conv1.weight"].detach()
    assert item.after.nonzero == item.before.nonzero // 2
    gone = weight[~pruned.masks["layer1.0.conv1.weight"]].abs().max()
    assert item.moved == pytest.approx(float(gone / weight.abs().max()))


def test_smaller_layers_have_two_shapes(program):
    small = sp.run(program, ["channel-prune:sparsity=0.5", "shrink"]).program
    item = next(item for item in differences(program, small).modules if item.module == "layer1.0.conv1")
    assert (item.before.shape, item.after.shape, item.moved) == ((4, 4, 3, 3), (2, 4, 3, 3), None)
    assert item.after.macs == item.before.macs // 2


def test_what_is_only_rounding_is_equal(program):
    model = small_resnet()
    with torch.no_grad():
        model.fc.bias += 1e-7
    found = differences(program, sp.capture(model, (example(),)))
    assert [item.module for item in found.modules] == ["fc"]
    assert found.equal


def test_a_negative_zero_is_not_the_same_bit_for_bit(program):
    model = small_resnet()
    with torch.no_grad():
        model.fc.bias[0] = 0.0
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.fc.bias[0] = -0.0
    found = differences(*(sp.capture(net, (example(),)) for net in (model, other)))
    assert [(item.module, item.moved) for item in found.modules] == [("fc", 0.0)]


def test_blocks_that_were_counted_anew_are_compared_with_what_they_were():
    def program(blocks):
        model = nn.Sequential()
        model.h = nn.Sequential(*blocks)
        return sp.capture(model.eval(), (torch.randn(2, 4, generator=torch.Generator().manual_seed(0)),))

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        blocks = [nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)) for _ in range(4)]
    found = differences(program(blocks), program([blocks[1], blocks[3]]))
    assert found.renumbered == {"h.0": "h.1", "h.1": "h.3"}
    gone = [(item.module, item.after, item.before.macs) for item in found.modules]
    assert gone == [(f"h.{block}.{layer}", None, 16) for block in (0, 2) for layer in (0, 2)]
    assert found.same == 4
    assert differences(program(blocks), program(blocks[:2])).renumbered == {}


def test_macs_are_those_of_the_batch_that_a_model_is_fixed_to(program):
    two, three = (sp.capture(small_resnet(), (torch.randn(n, 1, 8, 8),), dynamic_batch=False) for n in (2, 3))
    for pair in ((program, two), (two, program)):
        found = differences(*pair)
        assert found.batches == (2, 2)
        assert found.costs[0].macs == found.costs[1].macs == 2 * sp.cost(program).macs
    assert differences(program, program).batches == (1, 1)
    found = differences(two, three)
    assert found.batches == (2, 3)
    assert [cost.macs for cost in found.costs] == [2 * sp.cost(program).macs, 3 * sp.cost(program).macs]


def test_macs_of_modules_are_those_of_the_same_batch(program):
    model = small_resnet()
    model.fc = nn.Linear(8, 3)
    (item,) = differences(program, sp.capture(model, (example(),), dynamic_batch=False)).modules
    assert (item.before.macs, item.after.macs) == (2 * 80, 2 * 24)


def test_other_outputs_cannot_be_compared(program):
    model = small_resnet()
    model.fc = nn.Linear(8, 3)
    found = differences(program, sp.capture(model, (example(),)))
    assert (found.gap, found.equal) == (None, False)
    assert found.as_dict()["modules"][0]["module"] == "fc"
