"""Rounds of scoring: what goes stays away, unless the criterion lets it come back."""

import pytest
import torch
from helpers.sparse import Clusters, program_of

from sparsify.masking import masked
from sparsify.observation.calibration import Calibration
from sparsify.pruning.choice import made
from sparsify.pruning.ranking import lowest
from sparsify.pruning.weight_rounds import in_rounds

NAMES = ["0.weight", "2.weight", "4.weight"]
TOTAL = 960


def pruned(criterion, shares, program=None, watch=None):
    program = program or program_of()

    def choose(scored, share, gone):
        items = list(scored)
        if watch is not None:
            watch.append(dict(gone))
        kept = lowest(items, round(share * TOTAL))
        shapes = [program.parameters[item.name].shape for item in items]
        return {item.name: mask.view(shape) for item, mask, shape in zip(items, kept, shapes, strict=True)}

    return in_rounds(program, NAMES, made(criterion), Calibration(Clusters()), shares=shares, choose=choose)


def test_each_round_scores_what_the_one_before_left():
    one = pruned("snip", [0.5])
    again = pruned("snip", [0.8], masked(program_of(), one))
    both = pruned("snip", [0.5, 0.8])
    for name in NAMES:
        assert torch.equal(both[name], again[name])
        assert not bool((both[name] & ~one[name]).any())
    assert any(not torch.equal(both[name], mask) for name, mask in pruned("snip", [0.8]).items())


@pytest.mark.parametrize(("criterion", "returns"), [("iterative-snip", False), ("force", True)])
def test_weights_return_where_the_criterion_lets_them(criterion, returns):
    first, last = pruned(criterion, [0.9]), pruned(criterion, [0.9, 0.9])
    back = sum(int((last[name] & ~first[name]).sum()) for name in NAMES)
    assert (back > 0) == returns
    assert sum(int(mask.sum()) for mask in last.values()) == 96


def test_masks_that_a_program_has_never_grow():
    before = {"0.weight": torch.arange(384).view(32, 12) % 2 == 0}
    watched = []
    found = pruned("force", [0.5, 0.6], masked(program_of(), before), watched)
    assert not bool((found["0.weight"] & ~before["0.weight"]).any())
    assert all(torch.equal(gone["0.weight"], before["0.weight"]) for gone in watched)
