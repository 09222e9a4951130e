"""Choosing: which formats fit, what is measured, and that dense wins ties."""

import pytest
import torch
from helpers.lowered import mixed
from helpers.matrices import mask_of, nm_mask, same_bits
from torch import nn

import sparsify as sp
from sparsify.formats.block import BlockRows
from sparsify.lowering import choosing
from sparsify.lowering.choosing import candidates, fastest, smallest, whole
from sparsify.lowering.sites import sites
from sparsify.masking import masked


@pytest.fixture(scope="module")
def pruned():
    return sp.run(mixed(), ["weight-prune:sparsity=0.7,scope=layer"]).program


@pytest.mark.parametrize(("mask", "kinds"), [
    (mask_of((64, 64), 0.5), {"index", "bitmask"}),
    (nm_mask((8, 12), 2, 4), {"index", "bitmask", "2:4"}),
    (torch.ones(3, 5, dtype=torch.bool), {"index", "bitmask"}),
    (torch.zeros(8, 8, dtype=torch.bool), {"index", "bitmask", "2:4"}),
    (torch.eye(4).bool().repeat_interleave(32, 0).repeat_interleave(32, 1), {"index", "bitmask", "block32"}),
    (torch.eye(2).bool().repeat_interleave(128, 0).repeat_interleave(128, 1), {"index", "bitmask", "block128"}),
])  # fmt: skip
def test_which_formats_fit_a_mask(mask, kinds):
    weight = torch.randn(mask.shape)
    found = candidates(weight, mask)
    assert found.keys() == kinds
    for encode in found.values():
        assert same_bits(encode().decode(), torch.where(mask, weight, 0.0))


def test_the_format_of_fewest_bytes():
    def chosen(weight, mask):
        program = sp.capture(nn.Sequential(nn.Linear(*reversed(weight.shape))), (torch.randn(2, weight.shape[1]),))
        pruned = masked(program, {"0.weight": mask})
        (site,) = sites(pruned)
        return smallest(site, pruned)

    assert chosen(torch.randn(64, 64), mask_of((64, 64), 0.4)).kind == "bitmask"
    assert chosen(torch.randn(64, 64), mask_of((64, 64), 0.01)).kind == "index"
    assert chosen(torch.randn(64, 64), mask_of((64, 64), 0.99)).kind == "dense"
    tiles = torch.eye(2).bool().repeat_interleave(64, 0).repeat_interleave(64, 1)
    found = chosen(torch.randn(128, 128), tiles)
    assert isinstance(found.format, BlockRows)
    assert found.measured["block64"] < found.measured["bitmask"] < found.measured["dense"] == 4 * 128 * 128


@pytest.mark.parametrize(("times", "kind"), [
    ({"dense": 1.0, "index": 0.5, "bitmask": 0.6}, "index"),
    ({"dense": 1.0, "index": 1.5, "bitmask": 0.6}, "bitmask"),
    ({"dense": 1.0, "index": 0.98, "bitmask": 1.2}, "dense"),
    ({"dense": 1.0, "index": 2.0, "bitmask": 2.0}, "dense"),
])  # fmt: skip
def test_dense_stays_unless_a_format_is_faster(pruned, monkeypatch, times, kind):
    monkeypatch.setattr(choosing, "least", lambda calls, device, **_: {name: times[name] for name in calls})
    known = [site for site in sites(pruned, patches=True) if not site.reason]
    found = dict(fastest(pruned, known, None))
    assert {choice.kind for choice in found.values()} == {kind}
    assert all((choice.format is None) == (kind == "dense") for choice in found.values())
    assert all(choice.measured == times for choice in found.values())


@pytest.mark.parametrize("batch", [None, 5])
def test_all_ways_compute_the_layer_on_real_inputs(pruned, monkeypatch, batch):
    seen = []

    def look(calls, device):
        expected = calls["dense"]()
        for call in calls.values():
            torch.testing.assert_close(call(), expected, rtol=1e-4, atol=1e-5)
        seen.append(expected.shape)
        return dict.fromkeys(calls, 1.0)

    monkeypatch.setattr(choosing, "least", look)
    known = [site for site in sites(pruned, patches=True) if not site.reason]
    assert len(list(fastest(pruned, known, batch))) == len(known) == 7
    assert {shape[0] for shape in seen} == {batch or 2}


def test_the_whole_model_is_run_both_ways(pruned, monkeypatch):
    def look(calls, device, turns):
        (dense,), (low,) = calls["dense"](), calls["lowered"]()
        assert torch.equal(dense, low)
        assert len(dense) == 5
        return dict.fromkeys(calls, 1.0)

    monkeypatch.setattr(choosing, "least", look)
    assert whole(pruned, pruned, 5) == {"dense": 1.0, "lowered": 1.0}
