"""lower-nm: masks that fit are lowered, others are left with the reason."""

import pytest
import torch
from torch import nn

import sparsify as sp
from sparsify.errors import PassError, UsageError
from sparsify.passes.lower_nm import LowerNm


@pytest.fixture(scope="module")
def program():
    torch.manual_seed(0)
    return sp.capture(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8)), (torch.randn(2, 16),))


def test_masks_of_other_patterns_are_left(program):
    pruned = sp.run(program, ["weight-prune:pattern=2:4,only=0", "weight-prune:sparsity=0.5,only=2"]).program
    record = sp.run(pruned, ["lower-nm"]).report["passes"][0]
    assert record["lowered"] == {"0.weight": {"density": 0.5, "bytes": f"{512 * 4} -> {256 * 4 + 64}"}}
    assert "weights of a group of 4, not at most 2" in record["skipped"]["2.weight"]
    with pytest.raises(PassError, match=r"There is no masked linear layer to lower .*0\.weight: the mask keeps"):
        sp.run(pruned, ["lower-nm:pattern=1:4,only=0"])


@pytest.mark.parametrize("pattern", ["block4", "unstructured", "2:512"])
def test_patterns_that_are_none(pattern):
    with pytest.raises(UsageError, match=f"pattern={pattern} is not N:M"):
        LowerNm(pattern=pattern)
