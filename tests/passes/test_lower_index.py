"""lower-index: the numbers of its record, on a real model from the command line."""

import torch
from torch import nn

import sparsify as sp
from sparsify import verify


def test_what_is_stored_is_said():
    torch.manual_seed(0)
    program = sp.capture(nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4)), (torch.randn(2, 20),))
    pruned = sp.run(program, ["weight-prune:sparsity=0.9,scope=layer,only=0"]).program
    result = sp.run(pruned, ["lower-index"])
    (record,) = result.report["passes"]
    assert record["lowered"] == {"0.weight": {"density": 0.1, "bytes": f"{600 * 4} -> {60 * 8 + 31 * 4}"}}
    assert record["contract"] == "exact"
    assert result.program.parameters["0.weight_values"].shape == (60,)
    verify.equivalent(pruned, result.program)
