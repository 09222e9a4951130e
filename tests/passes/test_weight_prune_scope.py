"""weight-prune: criteria whose scores do not compare across layers rank each layer by itself, unless told otherwise."""

import functools

import pytest
import torch
from helpers.zoo import FAMILIES

import sparsify as sp
from sparsify.errors import PassError, UsageError
from sparsify.pruning.choice import made
from sparsify.registry import entries


@functools.cache
def bert():
    model, args, kwargs = FAMILIES["bert"]()
    return sp.capture(model, args, kwargs)


def pruned(options):
    result = sp.run(bert(), [f"weight-prune:sparsity=0.8,{options}"])
    return result.program.masks, result.report["passes"][0]


@pytest.mark.parametrize("criterion", ["wanda", "obs", "inbound"])
def test_layers_that_do_not_compare_are_ranked_each_by_itself(criterion):
    masks, record = pruned(f"criterion={criterion}")
    assert record["scope"] == "layer"
    for name, mask in masks.items():
        assert int((~mask).sum()) == pytest.approx(0.8 * mask.numel(), abs=1), name


def test_it_may_be_said_otherwise():
    masks, record = pruned("criterion=wanda,scope=global,allow_collapse=yes")
    assert record["scope"] == "global"
    shares = {name: float((~mask).float().mean()) for name, mask in masks.items()}
    assert max(shares.values()) > 0.85
    assert min(shares.values()) < 0.75
    total = sum(mask.numel() for mask in masks.values())
    assert sum(int((~mask).sum()) for mask in masks.values()) == round(0.8 * total)


def test_other_criteria_rank_all_layers_together():
    assert pruned("criterion=magnitude")[1]["scope"] == "global"
    assert {entry.name for entry in entries("sparsify.criteria").values() if made(entry.name).per_layer} == {
        "wanda", "obs", "inbound"
    }  # fmt: skip


def test_half_of_the_last_layer_goes_with_them():
    masks, _ = pruned("criterion=wanda,last=half")
    shares = sorted(float((~mask).float().mean()) for mask in masks.values())
    assert shares[0] == pytest.approx(shares[1] / 2, abs=0.01)
    assert shares[1] == pytest.approx(shares[-1], abs=0.01)
    with pytest.raises(UsageError, match="last=half needs allocation=uniform"):
        pruned("criterion=magnitude,last=half")


def test_a_layer_with_small_weights_is_emptied_by_a_global_ranking_alone():
    model, args, kwargs = FAMILIES["bert"]()
    with torch.no_grad():
        model.get_parameter("bert.encoder.layer.0.output.dense.weight").mul_(1e-3)
    program = sp.capture(model, args, kwargs)
    with pytest.raises(PassError, match="would lose all weights"):
        sp.run(program, ["weight-prune:sparsity=0.5"])
    sp.run(program, ["weight-prune:sparsity=0.5,criterion=wanda"])


@pytest.mark.parametrize("options", ["allocation=uniform", "allocation=erk", "scope=layer", "criterion=wanda"])
def test_where_masks_already_take_more_of_a_layer_the_others_give_way(options):
    """Exactly what was asked for is pruned, whatever was pruned before."""
    passes = ["weight-prune:sparsity=0.5,allocation=lamp", f"weight-prune:sparsity=0.6,{options}"]
    result = sp.run(bert(), passes)
    masks = result.program.masks
    total = sum(mask.numel() for mask in masks.values())
    assert sum(int((~mask).sum()) for mask in masks.values()) == round(0.6 * total)
    assert "more than asked for" not in result.report["passes"][1]["done"]


def test_more_than_asked_for_is_said():
    result = sp.run(bert(), ["weight-prune:sparsity=0.5", "weight-prune:pattern=2:4"])
    assert result.report["passes"][1]["reached"] > 0.5
    assert "more than asked for, because of the masks that there were" in result.report["passes"][1]["done"]


def test_layers_that_are_left_without_weights_are_named():
    result = sp.run(bert(), ["weight-prune:sparsity=0.999999,allow_collapse=yes"])
    assert "; nothing is left of " in result.report["passes"][0]["done"]


def test_advice_against_a_collapse_does_not_repeat_what_was_done():
    with pytest.raises(PassError, match=r"nothing would pass it\. Use another allocation"):
        sp.run(bert(), ["weight-prune:sparsity=0.999999,scope=layer"])
