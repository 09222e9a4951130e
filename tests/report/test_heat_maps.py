import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import sparsify as sp
from sparsify.masking import masked
from sparsify.report import heat_maps as maps
from sparsify.report.heat_maps import heat_maps, png


def pixels(found):
    data = base64.b64decode(found.source.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (48, 7)])
def test_a_png_is_what_it_was_made_of(shape):
    grey = torch.randint(0, 256, shape, dtype=torch.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(grey)))), grey.numpy())


def test_a_small_mask_is_drawn_bit_by_bit():
    program = sp.capture(nn.Linear(4, 3), (torch.randn(2, 4),))
    mask = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    (found,), left_out = heat_maps(masked(program, {"weight": mask}))
    assert left_out == 0
    assert (found.name, found.shape, found.density) == ("weight", (3, 4), 0.5)
    assert np.array_equal(pixels(found), 255 * mask.numpy())


def test_a_large_mask_is_averaged():
    program = sp.capture(nn.Linear(96, 480), (torch.randn(2, 96),))
    mask = torch.zeros(480, 96, dtype=torch.bool)
    mask[:240] = True
    mask[240:, ::4] = True
    (found,), _ = heat_maps(masked(program, {"weight": mask}))
    drawn = pixels(found)
    assert drawn.shape == (48, 48)
    assert (drawn[:24] == 255).all()
    assert set(np.unique(drawn[24:])) <= {0, 128}


def test_kernels_are_columns_of_their_inputs_and_layers_are_in_order():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 1))
    program = sp.run(sp.capture(net, (torch.randn(2, 2, 6, 6),)), ["weight-prune:sparsity=0.5"]).program
    found, _ = heat_maps(program)
    assert [(item.name, item.shape) for item in found] == [("0.weight", (3, 18)), ("2.weight", (4, 3))]


def test_the_largest_are_drawn_where_there_are_many(monkeypatch):
    monkeypatch.setattr(maps, "_MOST", 1)
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 8))
    program = sp.run(sp.capture(net, (torch.randn(2, 4),)), ["weight-prune:sparsity=0.5"]).program
    found, left_out = heat_maps(program)
    assert ([item.name for item in found], left_out) == (["2.weight"], 1)


def test_a_dense_program_has_none():
    assert heat_maps(sp.capture(nn.Linear(4, 3), (torch.randn(2, 4),))) == ([], 0)
