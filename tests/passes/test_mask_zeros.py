"""mask-zeros: zeros of a model that was pruned elsewhere stay zeros in a training."""

import pytest
import torch
from helpers.command import small_program

import sparsify as sp
from sparsify.errors import PassError, UsageError
from sparsify.masking import baked
from sparsify.verify import outputs

STEPS = "fine-tune:steps=3it,learning_rate=0.1"


@pytest.fixture(scope="module")
def elsewhere():
    """A model whose file has zeros and no masks."""
    return baked(sp.run(small_program(), ["weight-prune:sparsity=0.5"]).program)


def zeros(program):
    return {name: value.detach() == 0 for name, value in program.parameters.items() if value.ndim > 1}


def test_zeros_stay_in_a_training_only_behind_masks(elsewhere):
    kept = sp.run(elsewhere, ["mask-zeros"])
    assert kept.report["passes"][0]["contract"] == "exact"
    assert all(torch.equal(one, other) for one, other in zip(outputs(kept.program), outputs(elsewhere), strict=True))
    free, held = (sp.retrain(program, STEPS, "digits") for program in (elsewhere, kept.program))
    before, after = zeros(elsewhere), zeros(baked(held.program))
    assert sum(int(mask.sum()) for mask in before.values()) > 0
    assert all(bool((after[name] | ~mask).all()) for name, mask in before.items())
    assert not all(bool((mask | ~before[name]).all()) for name, mask in zeros(free.program).items())
    assert any(
        "has zeros that no mask holds" in note or "have zeros" in note for note in sp.run(elsewhere, []).report["notes"]
    )
    assert any("The pass mask-zeros" in note for note in free.report["notes"])
    assert not any("mask-zeros" in note for note in held.report["notes"])


def test_masks_are_those_of_the_pruning(elsewhere):
    pruned = sp.run(small_program(), ["weight-prune:sparsity=0.5"]).program
    found = sp.run(elsewhere, ["mask-zeros:least=0.01"]).program.masks
    enough = {name for name, mask in pruned.masks.items() if float((~mask).float().mean()) >= 0.01}
    assert found.keys() == enough
    assert all(torch.equal(found[name], pruned.masks[name]) for name in found)


def test_a_few_zeros_are_no_mask():
    program = small_program()
    with torch.no_grad():
        next(iter(program.parameters.values())).view(-1)[0] = 0
    with pytest.raises(PassError, match="nothing to mask: no layer has 5% of zeros"):
        sp.run(program, ["mask-zeros"])
    with pytest.raises(UsageError, match="fraction"):
        sp.run(program, ["mask-zeros:least=0"])


def test_masks_that_are_there_are_enough(elsewhere):
    with pytest.raises(PassError, match="nothing to mask"):
        sp.run(elsewhere, ["mask-zeros", "mask-zeros"])
