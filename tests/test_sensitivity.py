"""Scans: what is measured is what pruning by hand does, nothing is measured twice, and nothing is mixed up."""

import copy
import json
import math
from dataclasses import replace

import pytest
import torch
from helpers.regression import Regression
from helpers.residual import resnet
from torch import nn

import sparsify as sp
from sparsify.errors import InputError, PassError, UsageError
from sparsify.sensitivity import LEVELS, read_scan, scan, write_scan

NAMES = ["0.weight", "2.weight", "4.weight"]
SIZES = [36, 72, 12]  # so many weights
SHORT = (0.25, 0.5, 0.9)


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 12), nn.Tanh(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 2))


def captured(model, synthetic=False):
    program = sp.capture(model, (torch.randn(4, 3, generator=torch.Generator().manual_seed(1)),))
    return replace(program, example=replace(program.example, synthetic=synthetic))


def pruned(model, name, level):
    """Mask the lowest magnitudes of a weight by hand, as many as is nearest to the level, halves up."""
    model = copy.deepcopy(model)
    weight = model.get_parameter(name).data
    order = weight.abs().flatten().sort(stable=True, descending=True).indices
    count = math.floor(level * weight.numel() + 0.5)
    weight.view(-1)[order[weight.numel() - count :]] = 0
    return model


def without_channels(model, layer, level):
    """Close the channels between two layers whose weights and biases are smallest, by hand."""
    model = copy.deepcopy(model)
    one, other = model[layer], model[layer + 2]
    sums = one.weight.abs().sum(1) + one.bias.abs() + other.weight.abs().sum(0)
    with torch.no_grad():
        other.weight[:, sums.argsort()[: math.floor(level * len(sums) + 0.5)]] = 0
    return model


def loss(model, batches):
    with torch.no_grad():
        losses = [float(Regression().loss(model, batch)) for batch in batches]
    return sum(losses) / len(losses)


def gap(model, other, x):
    with torch.no_grad():
        return float((model(x) - other(x)).norm() / model(x).norm())


def batches_of(count, seed=0):
    return list(Regression(count=8).batches("train", seed=seed))[:count]


def stopped(program, rows, task=None, **options):
    """Return what a scan has found when it is interrupted after some rows."""
    kept = []

    def stop(found, total):
        kept.append(found)
        if len(kept) == rows:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(program, task, on_row=stop, **options)
    return kept[-1]


def test_it_is_the_rise_of_the_loss_when_one_layer_is_masked():
    model, task = net(), Regression(count=8)
    found = scan(captured(model), task, sparsities=SHORT, batches=3, seed=5)
    data = batches_of(3, seed=5)
    assert list(found.layers) == list(found.sizes) == NAMES
    assert list(found.sizes.values()) == SIZES
    assert found.quantity == "rise of the loss"
    for name, values in found.layers.items():
        expected = [loss(pruned(model, name, level), data) - loss(model, data) for level in SHORT]
        assert values == pytest.approx(expected, abs=1e-5)  # of float32 losses near 10
        assert len(set(values)) == 3


def test_without_a_task_it_is_the_relative_change_of_the_output():
    model = net()
    program = captured(model)
    found = scan(program, sparsities=SHORT)
    assert found.quantity == "relative change of the output"
    (x,) = program.example.args
    for name, values in found.layers.items():
        assert values == pytest.approx([gap(model, pruned(model, name, level), x) for level in SHORT], rel=1e-5)


@pytest.mark.parametrize("with_task", [True, False])
def test_channels_are_closed_group_by_group(with_task):
    model = net()
    program = captured(model)
    (x,) = program.example.args
    found = scan(
        program, Regression(count=8) if with_task else None, unit="channels", sparsities=(0.3, 0.5, 0.8), batches=2
    )
    assert dict(found.sizes) == {"0": 12, "2": 6}
    for name, values in found.layers.items():
        others = [without_channels(model, int(name), level) for level in (0.3, 0.5, 0.8)]
        data = batches_of(2)
        expected = [loss(other, data) - loss(model, data) if with_task else gap(model, other, x) for other in others]
        assert values == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_what_is_masked_already_goes_first():
    model = net()
    program = sp.run(captured(model), ["weight-prune:sparsity=0.5,scope=layer,criterion=random"]).program
    found = scan(program, sparsities=(0.25, 0.5, 0.9))
    for values in found.layers.values():
        assert values[:2] == [0, 0]
        assert values[2] > 0


@pytest.mark.parametrize("unit", ["weights", "channels"])
@pytest.mark.parametrize("criterion", ["magnitude", "random", "taylor"])
def test_a_scan_that_goes_on_finds_what_an_uninterrupted_one_finds(unit, criterion):
    program = captured(net())
    options = {"unit": unit, "criterion": criterion, "sparsities": SHORT, "batches": 2}
    whole = scan(program, Regression(), **options)
    part = stopped(program, 1, Regression(), **options)
    assert len(part.layers) == 1
    assert scan(program, Regression(), known=part, **options) == whole


def test_nothing_is_measured_twice():
    program, task = captured(net()), Regression(count=2)
    options = {"sparsities": SHORT, "batches": 2}
    scan(program, task, **options)
    base, row = 1 + 2, 2 * len(SHORT)  # the first batch says what data it is
    assert task.asked == base + 3 * row
    part = stopped(program, 2, task, **options)
    task.asked = 0
    whole = scan(program, task, known=part, **options)
    assert task.asked == base + row
    task.asked = 0
    assert scan(program, task, known=whole, **options) == whole
    assert task.asked <= base


def test_a_finished_scan_of_channels_measures_nothing():
    program, task = captured(net()), Regression()
    whole = scan(program, task, unit="channels", sparsities=SHORT)
    task.asked = 0
    assert scan(program, task, unit="channels", sparsities=SHORT, known=whole) == whole
    assert task.asked == 1  # the first batch, to see that it is the same data


def test_every_row_is_told_with_their_number():
    told = []
    whole = scan(captured(net()), sparsities=(0.5,), on_row=lambda found, rows: told.append((list(found.layers), rows)))
    assert told == [(NAMES[:1], 3), (NAMES[:2], 3), (NAMES, 3)]
    assert list(whole.layers) == NAMES


@pytest.mark.parametrize(
    "other",
    [{"unit": "channels"}, {"criterion": "random"}, {"sparsities": (0.5, 0.6)}, {"batches": 3}, {"seed": 1}],
    ids=lambda other: next(iter(other)),
)
def test_a_scan_with_another_setting_is_refused(other):
    program = captured(net())
    known = scan(program, Regression(), sparsities=(0.5,), batches=2)
    with pytest.raises(PassError, match=r"another model, task or setting\. Remove it, or name another with -o"):
        scan(program, Regression(), known=known, **{"sparsities": (0.5,), "batches": 2, **other})


def test_a_scan_of_another_model_or_task_is_refused():
    program = captured(net())
    known = scan(program, Regression(), sparsities=(0.5,))
    retrained = captured(net())
    with torch.no_grad():
        retrained.parameters["4.bias"][0] += 1e-6
    for other, task in ((retrained, Regression()), (program, None), (program, Regression(name="other"))):
        with pytest.raises(PassError, match="another model, task or setting"):
            scan(other, task, sparsities=(0.5,), known=known)


def test_a_scan_on_other_data_of_the_task_is_refused():
    program = captured(net())
    known = scan(program, Regression(), sparsities=(0.5,))
    with pytest.raises(PassError, match="another model, task or setting"):
        scan(program, Regression(size=6), sparsities=(0.5,), known=known)
    assert scan(program, Regression(), sparsities=(0.5,), known=known) == known


def test_without_a_task_a_scan_on_other_inputs_is_refused():
    program = captured(net())
    known = scan(program, sparsities=(0.5,))
    other = program.with_example((torch.ones(4, 3),), {}, synthetic=False)
    with pytest.raises(PassError, match="another model, task or setting"):
        scan(other, sparsities=(0.5,), known=known)
    with_task = scan(program, Regression(), sparsities=(0.5,))
    assert scan(other, Regression(), sparsities=(0.5,), known=with_task) == with_task


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_every_kind_of_number_can_be_digested(dtype):
    model = nn.Sequential(nn.Linear(3, 4, dtype=dtype), nn.BatchNorm1d(4, dtype=dtype)).eval()
    found = scan(sp.capture(model, (torch.randn(4, 3, dtype=dtype),)), sparsities=(0.5,))
    assert len(found.subject) == 16
    assert found.layers["0.weight"][0] > 0


@pytest.mark.parametrize("levels", [(), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5), (0.7, 0.3), (-0.1,), (math.nan,)])
def test_sparsities_that_do_not_rise_between_0_and_1_are_refused(levels):
    with pytest.raises(UsageError, match="The sparsities of a scan rise between 0 and 1"):
        scan(captured(net()), sparsities=levels)


@pytest.mark.parametrize("batches", [0, -1])
def test_no_batches_are_refused(batches):
    with pytest.raises(UsageError, match="at least one batch"):
        scan(captured(net()), Regression(), batches=batches)


def test_only_some_layers_or_groups():
    program, task = captured(net()), Regression()
    assert list(scan(program, task, sparsities=(0.5,), only=["2", "4.*"]).layers) == NAMES[1:]
    channels = scan(program, task, sparsities=(0.5,), unit="channels", only=["4"])
    assert list(channels.layers) == ["2"]  # the group that the last layer reads
    with pytest.raises(PassError, match="no group of channels to scan"):
        scan(program, task, sparsities=(0.5,), unit="channels", only=["7"])


def test_more_layers_are_added_to_a_scan_of_some():
    program, task = captured(net()), Regression()
    some = scan(program, task, sparsities=(0.5,), only=["2"])
    assert scan(program, task, sparsities=(0.5,), known=some).layers == scan(program, task, sparsities=(0.5,)).layers


def test_random_inputs_are_no_data():
    with pytest.raises(PassError, match="needs data, and the example inputs are random"):
        scan(captured(net(), synthetic=True))
    assert scan(captured(net(), synthetic=True), Regression(), sparsities=(0.5,)).layers


def test_a_criterion_that_lacks_data_and_one_that_is_unknown_are_refused():
    with pytest.raises(PassError, match="needs a loss"):
        scan(captured(net()), criterion="snip")
    with pytest.raises(UsageError, match="did you mean 'magnitude'"):
        scan(captured(net()), criterion="magnitud")


def test_a_task_without_batches_is_refused():
    for unit in ("weights", "channels"):
        with pytest.raises(PassError, match="gives no batch"):
            scan(captured(net()), Regression(count=0), unit=unit)


def test_the_program_is_left_as_it_is():
    program = captured(net())
    text, before = str(program), {name: value.detach().clone() for name, value in program.parameters.items()}
    for unit in ("weights", "channels"):
        scan(program, Regression(), unit=unit, sparsities=(0.5,))
    assert str(program) == text
    assert all(torch.equal(before[name], value) for name, value in program.parameters.items())


def test_a_file_holds_all_of_a_scan(tmp_path):
    found = scan(captured(net()), Regression(), sparsities=SHORT)
    write_scan(tmp_path / "scan.json", found)
    assert read_scan(tmp_path / "scan.json") == found
    written = json.loads((tmp_path / "scan.json").read_text())
    assert written["layers"]["2.weight"] == found.layers["2.weight"]
    assert written["sparsities"] == list(SHORT)
    assert scan(captured(net()), Regression(), sparsities=SHORT, known=read_scan(tmp_path / "scan.json")) == found


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"sparsities": [0.5], "layers": {}}', '"text"', "\x00"])
def test_what_is_no_scan_is_refused(tmp_path, text):
    (tmp_path / "scan.json").write_text(text)
    with pytest.raises(InputError, match=r"scan\.json is no scan"):
        read_scan(tmp_path / "scan.json")


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    (tmp_path / "scan.json").write_bytes(b"PK\x03\x04\xff\xfe")
    for path in ("scan.json", "gone.json"):
        with pytest.raises(InputError, match=f"{path} is no scan"):
            read_scan(tmp_path / path)


@pytest.mark.parametrize("sparsity", [0.1, 0.37, 0.5, 0.8, 0.95])
def test_weights_are_allocated_by_a_scan_and_their_number_is_exact(tmp_path, sparsity):
    program = captured(net())
    write_scan(tmp_path / "scan.json", scan(program, Regression(), sparsities=LEVELS))
    spec = f"weight-prune:allocation=table,table={tmp_path / 'scan.json'},sparsity={sparsity}"
    result = sp.run(program, [spec])
    gone = sum(int((~mask).sum()) for mask in result.program.masks.values())
    assert gone == result.report["passes"][0]["pruned"] == math.floor(sparsity * sum(SIZES) + 0.5)


def test_the_layer_that_does_not_matter_goes_first(tmp_path):
    model = net()
    with torch.no_grad():
        model[2].weight[1:] = 0  # five of six outputs say nothing
    program = captured(model)
    write_scan(tmp_path / "scan.json", scan(program, sparsities=LEVELS))
    spec = f"weight-prune:allocation=table,table={tmp_path / 'scan.json'},sparsity=0.45"
    masks = sp.run(program, [spec]).program.masks
    assert int((~masks["2.weight"]).sum()) == 54
    assert all(bool(masks[name].all()) for name in ("0.weight", "4.weight") if name in masks)


@pytest.mark.parametrize(("goal", "value"), [("macs", 0.5), ("params", 0.6), ("sparsity", 0.5)])
def test_channels_are_allocated_by_a_scan(tmp_path, goal, value):
    _, program = resnet()
    task = Regression(inputs=(3, 8, 8), outputs=3, count=2)
    write_scan(tmp_path / "scan.json", scan(program, task, unit="channels", sparsities=(0.3, 0.6, 0.9)))
    spec = f"channel-prune:table={tmp_path / 'scan.json'},{goal}={value}"
    record = sp.run(program, [spec]).report["passes"][0]
    assert record["reached"] == pytest.approx(value, abs=0.03)  # the network has 24 channels in all
