"""lower-bitmask: what it stores."""

import torch
from torch import nn

import sparsify as sp


def test_what_is_stored_is_said():
    torch.manual_seed(0)
    program = sp.capture(nn.Sequential(nn.Linear(20, 30)), (torch.randn(2, 20),))
    result = sp.run(program, ["weight-prune:sparsity=0.5", "lower-bitmask"])
    expected = {"0.weight": {"density": 0.5, "bytes": f"{600 * 4} -> {300 * 4 + 30 * 3 + 31 * 4}"}}
    assert result.report["passes"][1]["lowered"] == expected
