import pytest
import torch
from torch import nn

from sparsify.errors import InputError, UsageError
from sparsify.loading.placement import find_device, move_inputs, move_model, with_inputs


class Net(nn.Module):
    def forward(self, x, ids, *, mask=None):
        return x.sum() + ids.sum() + mask.sum()


@pytest.fixture
def exported():
    args, kwargs = (torch.ones(4, 3), torch.ones(4, 5, dtype=torch.long)), {"mask": torch.ones(2)}
    auto = torch.export.Dim.AUTO
    batch = torch.export.Dim("batch", min=2, max=100)
    return torch.export.export(Net(), args, kwargs, dynamic_shapes=({0: batch}, {0: batch, 1: auto}, None))


def inputs(x=(6, 3), ids=(6, 7), mask=(2,), dtype=torch.long):
    return (torch.ones(x), torch.ones(ids, dtype=dtype)), {"mask": torch.ones(mask)}


def test_inputs_that_fit_replace_the_example(exported):
    again = with_inputs(exported, inputs(), "a.pt2")
    assert again.example_inputs[0][1].shape == (6, 7)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"x": (6, 4)}, r"x is 6x4, not \?x3"),
        ({"x": (5, 3)}, r"ids is 6x7, not \?x\?"),
        ({"x": (6,)}, r"x is 6, not \?x3"),
        ({"mask": ()}, "mask is a scalar, not 2"),
        ({"dtype": torch.float32}, r"ids is torch\.float32, not torch\.int64"),
    ],
)
def test_inputs_of_other_shapes_and_types_are_refused(exported, changes, match):
    with pytest.raises(InputError, match=f"a.pt2 was exported for other inputs: {match}"):
        with_inputs(exported, inputs(**changes), "a.pt2")


@pytest.mark.parametrize(
    "wrong",
    [
        ((torch.ones(6, 3),), {"mask": torch.ones(2)}),
        (inputs()[0], {}),
        (inputs()[0], {"musk": torch.ones(2)}),
        ((), {}),
    ],
)
def test_inputs_given_in_another_way_are_refused(exported, wrong):
    with pytest.raises(
        InputError, match=r"a\.pt2 was exported for the inputs x \(\?x3\), ids .* 2 positional and mask"
    ):
        with_inputs(exported, wrong, "a.pt2")


@pytest.mark.parametrize("name", ["nowhere", "cuda:99", ""])
def test_a_device_that_is_not_here_is_an_error(name):
    with pytest.raises(UsageError, match=f"device '{name}' cannot be used"):
        find_device(name)


def test_modules_and_inputs_move():
    meta = find_device("meta")
    assert move_model(nn.Linear(1, 1), meta).weight.device == meta
    assert move_inputs(((torch.ones(1), 2), {"a": [torch.ones(1)]}), meta)[1]["a"][0].device == meta
    assert move_inputs(None, meta) is None


def test_a_moved_program_keeps_its_tied_weights():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    exported = torch.export.export(Tied(), (torch.ones(1, 2),))
    assert move_model(exported, torch.device("cpu")) is exported
    moved = move_model(exported, torch.device("meta"))
    assert moved.state_dict["a.weight"] is moved.state_dict["b.weight"]
    assert moved.state_dict["a.weight"].device.type == "meta"
    assert moved.state_dict["a.bias"] is not moved.state_dict["b.bias"]


def test_inputs_find_their_places_by_name_or_by_order(tmp_path):
    class Two(nn.Module):
        def forward(self, x, *, scale):
            return x * scale

    x, scale = torch.randn(2, 3), torch.randn(2, 3)
    exported = torch.export.export(Two(), (x,), {"scale": scale})
    for args, kwargs in [((x, scale), {}), ((), {"scale": scale, "x": x}), ((x,), {"scale": scale})]:
        placed = with_inputs(exported, (args, kwargs), tmp_path).example_inputs
        assert torch.equal(placed[0][0], x)
        assert torch.equal(placed[1]["scale"], scale)
