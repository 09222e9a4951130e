"""Masks in a graph: written, intersected, trained with, saved, and baked into weights."""

import pytest
import torch
from torch import nn

import sparsify as sp
from sparsify.masking import baked, masked, with_masks
from sparsify.verify import outputs


@pytest.fixture
def program():
    torch.manual_seed(0)
    return sp.capture(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), (torch.randn(2, 3),))


def mask(*gone, shape=(4, 3)):
    found = torch.ones(shape, dtype=torch.bool)
    for place in gone:
        found[place] = False
    return found


def test_a_masked_weight_is_zero(program):
    small = masked(program, {"0.weight": mask((1, 2))})
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    model.load_state_dict({name: value.detach().clone() for name, value in program.parameters.items()})
    model[0].weight.data[1, 2] = 0
    x = program.example.args[0]
    assert torch.equal(small.module()(x), model(x))
    assert list(small.masks) == ["0.weight"]
    assert torch.equal(small.masks["0.weight"], mask((1, 2)))
    assert program.masks == {}
    assert sp.cost(small).nonzero == sp.cost(program).nonzero - 1


def test_a_second_mask_keeps_what_both_keep(program):
    twice = masked(masked(program, {"0.weight": mask((1, 2))}), {"0.weight": mask((0, 0))})
    assert torch.equal(twice.masks["0.weight"], mask((1, 2), (0, 0)))
    assert len(twice.buffers) == 1


def test_masked_weights_get_no_gradient(program):
    module = masked(program, {"0.weight": mask((1, 2))}).module(training=True)
    module(torch.randn(8, 3)).square().sum().backward()
    gradient = dict(module.named_parameters())["0.weight"].grad
    assert gradient[1, 2] == 0
    assert int((gradient != 0).sum()) > 3


def test_masks_are_saved(program, tmp_path):
    small = masked(program, {"0.weight": mask((1, 2)), "2.weight": mask(0, shape=(2, 4))})
    sp.save(small, tmp_path / "m.pt2")
    again = sp.load(tmp_path / "m.pt2")
    assert {name: value.tolist() for name, value in again.masks.items()} == {
        name: value.tolist() for name, value in small.masks.items()
    }
    assert torch.equal(outputs(again)[0], outputs(small)[0])


def test_baked(program):
    small = masked(program, {"0.weight": mask((1, 2))})
    plain = baked(small)
    assert plain.masks == {}
    assert plain.buffers == {}
    assert plain.parameters["0.weight"][1, 2] == 0
    assert torch.equal(outputs(plain)[0], outputs(small)[0])
    assert str(plain) == str(program)


def test_wrong_masks_are_refused(program):
    with pytest.raises(KeyError):
        masked(program, {"1.weight": mask()})
    with pytest.raises(ValueError, match=r"mask of 0.weight is torch.bool\[2, 4\], not bool\[4, 3\]"):
        masked(program, {"0.weight": mask(shape=(2, 4))})
    with pytest.raises(ValueError, match=r"torch\.float32"):
        masked(program, {"0.weight": torch.ones(4, 3)})


def test_other_masks_take_the_place_of_those_there_are(program):
    one = masked(program, {"0.weight": torch.rand(program.parameters["0.weight"].shape) > 0.5})
    mask = torch.rand(program.parameters["0.weight"].shape) > 0.5
    other = with_masks(one, {"0.weight": mask})
    assert torch.equal(other.masks["0.weight"], mask)
    assert str(other) == str(one)
    assert not torch.equal(one.masks["0.weight"], mask)


def test_masks_of_other_strides_change_no_layout():
    class Viewed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(8, 16, 1)

        def forward(self, x):
            return self.layer(x).view(x.shape[0], -1)

    program = sp.capture(Viewed(), (torch.randn(4, 8, 4, 4),))
    strange = torch.ones(16, 1, 1, 8, dtype=torch.bool).permute(0, 3, 1, 2)  # contiguous, and channels last
    strange[0] = False
    pruned = masked(program, {"layer.weight": strange})
    assert pruned.masks["layer.weight"].stride() == program.parameters["layer.weight"].stride()
    assert pruned.module()(torch.randn(2, 8, 4, 4)).shape == (2, 256)
    again = with_masks(pruned, {"layer.weight": strange})
    assert again.module()(torch.randn(2, 8, 4, 4)).shape == (2, 256)
    assert sp.run(program, ["weight-prune:pattern=2:4", "lower-nm"]).program.module()(
        torch.randn(2, 8, 4, 4)
    ).shape == (2, 256)
