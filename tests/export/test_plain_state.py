import pytest
import torch
from helpers.models import ConvNet, equal_leaves, images, rows, run
from torch import nn

import sparsify as sp
from sparsify.errors import ExportError, InputError
from sparsify.export import plain_state
from sparsify.export.plain_state import save_plain
from sparsify.freezing import frozen
from sparsify.verify import outputs


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4, bias=False), nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.norm = self.again = nn.BatchNorm1d(4)
        self.register_buffer("table", torch.ones(4), persistent=False)

    def forward(self, x):
        return self.again(self.two(self.norm(self.one(x)))) + self.table


@pytest.mark.parametrize(("make", "example"), [(ConvNet, images), (Tied, rows)])
def test_a_masked_model_takes_it_strictly(tmp_path, make, example):
    model = make()
    program = sp.run(sp.capture(model, (example(),)), ["weight-prune:sparsity=0.5"]).program
    save_plain(program, tmp_path / "m.pt")
    held = torch.load(tmp_path / "m.pt", weights_only=True)
    assert held.keys() == model.state_dict().keys()
    other = make()
    other.load_state_dict(held, strict=True)
    assert equal_leaves(run(other.eval(), [example()]), run(program.module(), [example()]))


def test_what_is_frozen_has_its_values_and_tied_names_one_tensor(tmp_path):
    model = Tied()
    program = frozen(sp.capture(model, (rows(),)), {"one.weight": torch.rand(4, 4) < 0.5}, 3)
    assert save_plain(program, tmp_path / "m.pth")["bytes"] == (tmp_path / "m.pth").stat().st_size
    held = torch.load(tmp_path / "m.pth", weights_only=True)
    assert held["one.weight"].data_ptr() == held["two.weight"].data_ptr()
    model.load_state_dict(held)
    assert torch.equal(model.eval()(rows()), outputs(program)[0])


def test_a_view_takes_no_more_than_itself(tmp_path):
    model = nn.Linear(4, 4)
    model.weight.data = torch.randn(1000, 4).T[:, :4]
    save_plain(sp.capture(model, (rows(),)), tmp_path / "m.pt")
    assert (tmp_path / "m.pt").stat().st_size < 4000
    assert torch.equal(torch.load(tmp_path / "m.pt")["weight"], model.weight)


def test_a_smaller_model_takes_it_after_write_back(tmp_path):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    program = sp.run(sp.capture(model, (rows(),)), ["channel-prune:sparsity=0.5", "shrink"]).program
    save_plain(program, tmp_path / "m.pt")
    sp.write_back(program, model)
    model.load_state_dict(torch.load(tmp_path / "m.pt", weights_only=True), strict=True)
    assert model[0].out_features == 4


def test_what_reads_back_different_does_not_appear(tmp_path, monkeypatch):
    load = torch.load
    monkeypatch.setattr(plain_state.torch, "load", lambda *a, **k: {n: v + 1 for n, v in load(*a, **k).items()})
    with pytest.raises(ExportError, match="reads back different"):
        save_plain(sp.capture(ConvNet(), (images(),)), tmp_path / "m.pt")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="does not exist"):
        save_plain(sp.capture(ConvNet(), (images(),)), tmp_path / "gone" / "m.pt")
