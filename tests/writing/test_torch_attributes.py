"""The attributes of torch's own modules when their parameters have shrunk: those that a small module is made with."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from sparsify.writing.torch_attributes import exact_attributes

PAIRS = {
    "linear": (nn.Linear(6, 9), nn.Linear(3, 4)),
    "conv": (nn.Conv2d(6, 9, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)),
    "grouped": (nn.Conv1d(8, 12, 3, groups=4), nn.Conv1d(4, 6, 3, groups=2)),
    "depthwise": (nn.Conv2d(6, 12, 3, groups=6), nn.Conv2d(3, 6, 3, groups=3)),
    "transposed": (nn.ConvTranspose2d(12, 8, 4, groups=2), nn.ConvTranspose2d(6, 4, 4, groups=1)),
    "norm": (nn.BatchNorm2d(8), nn.BatchNorm2d(5)),
    "norm without weight": (nn.BatchNorm1d(8, affine=False), nn.BatchNorm1d(5, affine=False)),
    "instance norm": (nn.InstanceNorm2d(8, affine=True), nn.InstanceNorm2d(3, affine=True)),
    "layer norm": (nn.LayerNorm((4, 8)), nn.LayerNorm((4, 5))),
    "rms norm": (nn.RMSNorm(8), nn.RMSNorm(5)),
    "group norm": (nn.GroupNorm(4, 12), nn.GroupNorm(2, 6)),
    "embedding": (nn.Embedding(20, 8, padding_idx=0), nn.Embedding(20, 5, padding_idx=0)),
    "bilinear": (nn.Bilinear(5, 6, 7), nn.Bilinear(3, 4, 2)),
    "prelu": (nn.PReLU(8), nn.PReLU(5)),
    "lstm": (nn.LSTM(6, 8, 2, bidirectional=True), nn.LSTM(3, 4, 2, bidirectional=True)),
    "projected lstm": (nn.LSTM(6, 8, proj_size=5), nn.LSTM(3, 4, proj_size=2)),
    "gru": (nn.GRU(6, 8), nn.GRU(3, 4)),
    "cell": (nn.LSTMCell(6, 8), nn.LSTMCell(3, 4)),
    "attention": (nn.MultiheadAttention(24, 4), nn.MultiheadAttention(12, 2)),
    "cross attention": (nn.MultiheadAttention(24, 4, kdim=7, vdim=9), nn.MultiheadAttention(12, 2, kdim=3, vdim=5)),
    "weight norm": (parametrizations.weight_norm(nn.Conv2d(6, 9, 3)), parametrizations.weight_norm(nn.Conv2d(4, 5, 3))),
}
GROUPS = {"grouped": 2, "depthwise": 3, "transposed": 1, "group norm": 2, "attention": 2, "cross attention": 2}


@pytest.mark.parametrize("name", PAIRS)
def test_the_attributes_are_those_of_a_small_module(name):
    module, small = PAIRS[name]
    for path, tensor in [*small.named_parameters(), *small.named_buffers()]:
        owner, _, key = path.rpartition(".")
        holder = module.get_submodule(owner)
        (holder._parameters if isinstance(tensor, nn.Parameter) else holder._buffers)[key] = tensor
    for part in module.modules():
        vars(part).update(exact_attributes(part, lambda _, dim, old: GROUPS.get(name, old) if old > 1 else old))
    ours, theirs = ({k: v for k, v in vars(m).items() if type(v) in (int, tuple)} for m in (module, small))
    assert ours == theirs


def test_recurrent_layers_run_with_their_new_weights():
    module, small = PAIRS["gru"]
    module._parameters.update(small._parameters)
    vars(module).update(exact_attributes(module, lambda *_: 1))
    x = torch.randn(5, 2, 3)
    assert torch.equal(module(x)[0], small(x)[0])
    assert all(a is b for a, b in zip(module._flat_weights, small._flat_weights, strict=True))


def test_other_modules_have_none():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.in_features, self.weight = 4, nn.Parameter(torch.ones(4, 4))

    assert exact_attributes(Own(), lambda *_: 1) == {}
    assert exact_attributes(nn.ReLU(), lambda *_: 1) == {}
    assert exact_attributes(nn.LayerNorm(4, elementwise_affine=False), lambda *_: 1) == {}
