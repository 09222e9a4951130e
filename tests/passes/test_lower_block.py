"""lower-block: tiles that are there are lowered, masks that are not made of them are left."""

import pytest
import torch
from torch import nn

import sparsify as sp
from sparsify.errors import UsageError
from sparsify.passes.lower_block import LowerBlock


def test_masks_that_are_not_made_of_tiles_are_left():
    torch.manual_seed(0)
    program = sp.capture(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8)), (torch.randn(2, 16),))
    prune = ["weight-prune:pattern=block8,sparsity=0.5,only=0", "weight-prune:sparsity=0.9,only=2"]
    pruned = sp.run(program, prune).program
    record = sp.run(pruned, ["lower-block:pattern=block8"]).report["passes"][0]
    assert record["lowered"] == {"0.weight": {"density": 0.5, "bytes": f"{512 * 4} -> {256 * 4 + 4 * 4 + 5 * 4}"}}
    assert record["skipped"]["2.weight"].startswith("its mask is not made of block8")
    both = sp.run(pruned, ["lower-block:pattern=block8,fill=0"]).report["passes"][0]
    assert list(both["lowered"]) == ["0.weight", "2.weight"]


@pytest.mark.parametrize(("options", "message"), [({"pattern": "2:4"}, "is no size of tiles"),
                                                   ({"fill": 1.5}, r"fill=1.5 is not in")])  # fmt: skip
def test_options_out_of_range(options, message):
    with pytest.raises(UsageError, match=message):
        LowerBlock(**options)
