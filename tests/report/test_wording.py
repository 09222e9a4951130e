import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sparsify.capture import capture
from sparsify.report import wording


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.conv = nn.Embedding(9, 6), nn.Conv1d(6, 8, 3, padding=1, groups=2)
        self.up, self.norm, self.plain = nn.ConvTranspose1d(8, 6, 2), nn.LayerNorm(6), nn.LayerNorm(6, bias=False)
        self.project = nn.Module()
        self.project.inner = nn.Linear(6, 12, bias=False)
        self.scale = nn.Parameter(torch.rand(12))
        self.weight = nn.Parameter(torch.rand(12))

    def forward(self, words):
        x = self.words(words).transpose(1, 2)
        x = self.up(self.conv(x)).transpose(1, 2)
        x = self.project.inner(self.norm(x) + self.plain(x)) * self.scale
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)) * self.weight
        x = x.unflatten(-1, (3, 4)).transpose(1, 2)
        return F.scaled_dot_product_attention(x, x, x)


@pytest.fixture(scope="module")
def program():
    return capture(Net(), (torch.randint(0, 9, (2, 5)),))


SAID = {  # node → title, text
    "words": ("words", ""),
    "embedding": ("words", "embedding, 9 x 6"),
    "conv1d": ("conv", "conv1d 3, 6 → 8"),
    "conv_transpose1d": ("up", "conv transpose1d 2, 8 → 6"),
    "layer_norm": ("norm", "layer norm, 6"),
    "add": ("+", "float32[batch, 6, 6]"),
    "linear": ("project.inner", "linear, 6 → 12"),
    "mul": ("scale", "mul, 12"),
    "scaled_dot_product_attention": ("attention", "3 heads of 4"),
    "output": ("output", ""),
}


@pytest.mark.parametrize("name", SAID)
def test_what_nodes_are_called(name, program):
    node = program.node(name)
    parameters = [str(value.target) for value in node.all_input_nodes if value.target in program.parameters]
    assert wording.describe(program, node, parameters if node.op == "call_function" else []) == SAID[name]


def test_a_norm_that_is_written_out(program):
    assert wording.describe(program, program.node("mul_2"), ["weight"], norm=True) == ("weight", "norm, 12")


def test_norms(program):
    assert [node.name for node in program.graph.nodes if wording.is_norm(node)] == ["layer_norm", "layer_norm_1"]
