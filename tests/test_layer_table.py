import json
from dataclasses import replace

import pytest
import torch
from helpers.command import small_program
from torch import nn

import sparsify as sp
from sparsify import layer_table as layers
from sparsify.cost import cost
from sparsify.layer_table import layer_table
from sparsify.masking import masked
from sparsify.sensitivity import scan


@pytest.fixture(scope="module")
def program():
    return small_program()


def test_rows_add_up_to_the_cost_before_and_after(program):
    after = sp.run(program, ["layer-prune", "channel-prune:sparsity=0.5", "shrink"]).program
    found = layer_table(program, after)
    for side, whole, place in (("before", cost(program), 0), ("after", cost(after), 1)):
        held = [getattr(row, side) for row in found.rows if getattr(row, side) is not None]
        assert sum(item.parameters for item in held) == whole.parameters
        assert sum(item.nonzero for item in held) == whole.nonzero
        assert sum(item.macs for item in held) + found.rest_macs[place] == whole.macs
    gone = [row for row in found.rows if row.after is None]
    assert gone
    assert all(row.milliseconds[0] > 0 and row.milliseconds[1] is None for row in gone)
    assert json.loads(json.dumps(found.as_dict()))["rows"][0]["module"] == found.rows[0].module


def test_lowered_layers_have_the_shapes_and_zeros_of_dense_ones():
    network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    program = sp.capture(network, (torch.randn(2, 16),))
    after = sp.run(program, ["weight-prune:sparsity=0.5,scope=layer", "lower-index"]).program
    found = layer_table(program, after)
    assert [row.after.shape for row in found.rows] == [row.before.shape for row in found.rows] == [(32, 16), (4, 32)]
    assert [row.pattern for row in found.rows] == ["unstructured"] * 2
    assert sum(row.after.nonzero for row in found.rows) == cost(after).nonzero
    assert [row.after.macs for row in found.rows] == [256, 64]
    assert (found.rest_macs, found.sparse_layers) == ((0, 0), True)


def test_attention_has_products_that_belong_to_no_module():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    program = sp.capture(model, (torch.randn(2, 5, 8),))
    found = layer_table(program, program)
    assert found.rest_macs == (2 * 5 * 5 * 8, 2 * 5 * 5 * 8)


@pytest.mark.parametrize(
    ("options", "pattern"), [("", "unstructured"), (",pattern=2:4", "2:4"), (",pattern=block2x2", "block2x2")]
)
def test_the_pattern_of_zeros(options, pattern):
    program = sp.capture(nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)), (torch.randn(2, 16),))
    after = sp.run(program, [f"weight-prune:sparsity=0.5,only=0.weight{options}"]).program
    found = {row.module: row.pattern for row in layer_table(program, after).rows}
    assert found == {"0": pattern, "2": ""}


def test_masked_channels_are_channels_and_whole_masks_nothing():
    program = sp.capture(nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16)), (torch.randn(2, 16),))
    after = sp.run(program, ["channel-prune:sparsity=0.5"]).program
    assert {row.pattern for row in layer_table(program, after).rows} == {"channels"}
    whole = masked(program, {"0.weight": torch.ones(16, 16, dtype=torch.bool)})
    assert {row.pattern for row in layer_table(program, whole).rows} == {""}


def test_frozen_weights_are_no_zeros(program):
    after = sp.run(program, ["freeze:sparsity=0.9"]).program
    found = layer_table(program, after)
    assert sum(row.after.nonzero for row in found.rows) == cost(after).nonzero == cost(program).nonzero
    assert {row.pattern for row in found.rows} == {""}


def test_a_few_zeros_are_no_pattern(program):
    with torch.no_grad():
        other = small_program()
        next(iter(other.parameters.values())).view(-1)[0] = 0
    assert all(row.pattern == "" for row in layer_table(other, other).rows)


def test_without_data_there_are_none(program):
    drawn = replace(program, example=replace(program.example, synthetic=True))
    found = layer_table(drawn, drawn)
    assert {row.sensitivity for row in found.rows} == {None}
    assert "random" in found.sensitivity


def test_what_takes_too_long_is_left_out(program, monkeypatch):
    monkeypatch.setattr(layers, "_BUDGET", 0.0)
    found = layer_table(program, program, _Task())
    assert {row.sensitivity for row in found.rows} == {None}
    assert "more than 0 s" in found.sensitivity


class _Task:
    name = "own"

    def batches(self, split, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn(2, 1, 8, 8, generator=generator) for _ in range(3)]

    def loss(self, model, batch):
        return model(batch).square().mean()

    def score(self, model):
        return sp.Score(0.0, "nothing", 1)


def test_sensitivities_are_those_of_a_scan_of_two_batches(program):
    found = layer_table(program, program, _Task(), seed=3)
    wanted = scan(program, _Task(), sparsities=(0.8,), batches=2, seed=3)
    rows = {row.module: row.sensitivity for row in found.rows if row.sensitivity is not None}
    assert rows == {name.removesuffix(".weight"): values[0] for name, values in wanted.layers.items()}
    assert found.sensitivity.startswith("rise of the loss when 80%")
