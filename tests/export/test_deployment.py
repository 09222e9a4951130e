"""What is deployed."""

import torch
from torch import nn

import sparsify as sp
from sparsify.embedding import embedded_names
from sparsify.export.deployment import deployed
from sparsify.freezing import frozen
from sparsify.masking import masked


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        return {"logits": self.second(self.first(x)), "size": 3, "none": None}


def test_masks_and_frozen_weights_are_written_out_and_tensors_alone_returned():
    torch.manual_seed(0)
    program = sp.capture(Named(), (torch.randn(2, 8),))
    pruned = masked(program, {"first.weight": torch.rand(8, 8) < 0.5})
    ready = deployed(frozen(pruned, {"second.weight": torch.rand(4, 8) < 0.5}))
    assert dict(ready.masks) == {}
    assert embedded_names(ready) == ()
    assert sorted(ready.parameters) == ["first.bias", "first.weight", "second.bias", "second.weight"]
    assert not ready.buffers
    x = torch.randn(5, 8)
    (output,) = ready.module()(x)
    assert torch.equal(output, pruned.module()(x)["logits"])
