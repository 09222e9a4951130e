"""Which tensor of a program belongs where in a model, and taking changes back."""

from dataclasses import replace

import pytest
import torch
from helpers.writing import captured, halved, is_untouched, look
from torch import nn

from sparsify.errors import PassError
from sparsify.masking import masked
from sparsify.writing.module_state import Edits, matched


class Tied(nn.Module):
    """One weight under two names, one layer under two names, a tensor in an attribute, and a constant in the code."""

    def __init__(self, constant=False):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.third.weight = self.second.weight
        self.layers = nn.ModuleList([self.first])
        self.register_buffer("table", torch.rand(6))
        self.plain, self.constant = torch.rand(6), constant

    def forward(self, x):
        x = torch.relu(self.first(x)) * self.table * self.plain
        if self.constant:
            x = x * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        return self.third(self.second(x)).sum(-1)


@pytest.fixture
def tied():
    torch.manual_seed(0)
    model = Tied().eval()
    found, groups = captured(model, torch.randn(3, 4))
    return model, found, halved(found, groups)


def test_every_place_of_a_tensor_is_found(tied):
    model, found, small = tied
    written = matched(small, found.program, model)
    names = {
        "first": model.first._parameters,
        "second": model.second._parameters,
        "third": model.third._parameters,
        "buffer": model._buffers,
        "attribute": vars(model),
    }
    places = {(name, key) for (holder, key), _ in written for name, known in names.items() if holder is known}
    tensors = [("first", "weight"), ("first", "bias"), ("buffer", "table"), ("attribute", "plain")]
    assert places >= {*tensors, ("second", "weight"), ("third", "weight")}
    by_name = {(id(holder), key): value for (holder, key), value in written}
    second, third = by_name[id(model.second._parameters), "weight"], by_name[id(model.third._parameters), "weight"]
    assert second is third
    assert isinstance(second, nn.Parameter)


def test_shared_tensors_are_not_written(tied):
    model, found, _ = tied
    assert matched(found.program, found.program, model) == []


def test_a_mask_is_folded(tied):
    model, found, _ = tied
    mask = torch.rand(6, 4) < 0.5
    ((_, value),) = matched(masked(found.program, {"first.weight": mask}), found.program, model)
    assert torch.equal(value, torch.where(mask, model.first.weight, 0.0))


def test_a_constant_of_the_code_must_stay():
    torch.manual_seed(0)
    model = Tied(constant=True).eval()
    found, groups = captured(model, torch.randn(3, 4))
    assert matched(found.program, found.program, model) == []
    with pytest.raises(PassError, match=r"makes the tensor lifted_tensor_0 \[6\] in its code.*\[3\].*register_buffer"):
        matched(halved(found, groups), found.program, model)


def test_edits_are_taken_back(tied):
    model, _, _ = tied
    before = look(model)
    edits = Edits(model)
    settings = {"a": [1, 2]}
    given = settings["a"]
    edits.put(model.first._parameters, "weight", nn.Parameter(torch.zeros(2, 4)))
    edits.put(vars(model.first), "out_features", 2)
    edits.put(settings, "a", [3, 4])
    edits.put(settings, "a", [5, 6])
    model.cache = torch.ones(3)  # as a forward may do
    assert not is_untouched(before, model)
    edits.undo()
    assert is_untouched(before, model)
    assert settings["a"] is given


def test_a_bias_without_a_place_is_refused(tied):
    model, found, _ = tied
    program = found.program
    odd = replace(program, parameters={**program.parameters, "second.weight_bias": torch.zeros(6)})
    with pytest.raises(PassError, match=r"gave second a bias, second\.weight_bias, for which it has no place"):
        matched(odd, program, model)
