import json

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import sparsify as sp


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.scale = nn.Parameter(torch.randn(1, 6))
        self.norm = nn.GroupNorm(2, 6)
        nn.init.normal_(self.norm.weight)
        self.register_buffer("table", torch.randn(5, 6))

    def forward(self, x):
        x = self.first(x).relu() * self.scale + self.table  # [batch, 5, 6]
        return self.norm(self.second(x).transpose(1, 2))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    net = Net().eval()
    path = tmp_path_factory.mktemp("origins") / "net.onnx"
    sp.export_onnx(sp.capture(net, (torch.randn(2, 5, 6),)), path)
    return net, onnx.load(path), path


def test_constants_have_the_names_of_their_parameters(model):
    net, file, _ = model
    found = {item.name: onnx.numpy_helper.to_array(item) for item in file.graph.initializer}
    for name, value in net.named_parameters():
        assert name in found
        array = value.detach().numpy()
        assert sorted(found[name].reshape(-1)) == sorted(array.reshape(-1))
    assert np.array_equal(found["first.weight"], net.first.weight.detach().numpy().T)  # as MatMul wants it


def test_the_file_says_what_is_not_trained(model):
    net, file, path = model
    entries = {item.key: item.value for item in file.metadata_props}
    fixed = json.loads(entries["sparsify.buffers"])
    assert "table" in fixed
    assert not set(fixed) & {name for name, _ in net.named_parameters()}
    assert set(sp.load(path).parameters) == {name for name, _ in net.named_parameters()}
