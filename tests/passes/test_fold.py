"""fold: what the graph makes of others is written out."""

import pytest
import torch
from helpers.command import small_program

import sparsify as sp
from sparsify.embedding import embedded_names
from sparsify.errors import PassError
from sparsify.verify import outputs


def test_the_program_is_what_it_was_before_it_was_embedded():
    before = small_program()
    result = sp.run(before, ["embed:kind=interspace", "fold"])
    assert str(result.program).splitlines()[1:] == str(before).splitlines()[1:]
    assert result.program.parameters.keys() == before.parameters.keys()
    for name, value in before.parameters.items():
        assert torch.equal(result.program.parameters[name], value)
    record = result.report["passes"][1]
    assert (record["contract"], record["largest_difference"]) == ("exact", 0)


def test_masks_become_zeros_unless_they_should_stay():
    passes = ["embed:kind=interspace", "weight-prune:sparsity=0.5"]
    hidden = sp.run(small_program(), passes).program
    folded = sp.run(hidden, ["fold"])
    assert not folded.program.masks
    assert "masks became zeros" in folded.report["passes"][0]["done"] or "mask became zeros" in str(folded.report)
    kept = sp.run(hidden, ["fold:masks=no"]).program
    plain = {name for name in hidden.masks if name not in embedded_names(hidden)}
    assert plain
    assert set(kept.masks) == plain
    assert not embedded_names(kept)
    assert torch.equal(outputs(kept)[0], outputs(hidden)[0])


def test_there_must_be_something():
    with pytest.raises(PassError, match="nothing to fold"):
        sp.run(small_program(), ["fold"])
    pruned = sp.run(small_program(), ["weight-prune:sparsity=0.5"]).program
    with pytest.raises(PassError, match="nothing to fold"):
        sp.run(pruned, ["fold:masks=no"])
