import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from sparsify import masking
from sparsify.capture import capture
from sparsify.cost import Cost, cost, macs_by_node
from sparsify.program import Program


class Fn(nn.Module):
    """A function as a model; the parameter is there because a model has one."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, *args):
        return self.function(*args) * self.one


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


QKV = (normal(2, 4, 6, 8), normal(2, 4, 7, 8), normal(2, 4, 7, 5))
NETWORKS = {  # name: (model, inputs of batch size 2)
    "conv": (nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 4, 1)), (normal(2, 3, 9, 9),)),
    "same padding": (nn.Conv2d(3, 8, 3, padding="same"), (normal(2, 3, 9, 9),)),
    "grouped": (nn.Conv2d(8, 12, 3, groups=4, padding=1), (normal(2, 8, 6, 6),)),
    "depthwise": (nn.Conv2d(8, 8, 3, groups=8, dilation=2), (normal(2, 8, 9, 9),)),
    "transposed": (nn.ConvTranspose2d(6, 4, 3, stride=2), (normal(2, 6, 5, 5),)),
    "transposed, grouped": (nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2, output_padding=1), (normal(2, 6, 5, 5),)),
    "conv1d": (nn.Conv1d(4, 6, 5, padding=2), (normal(2, 4, 11),)),
    "conv3d": (nn.Conv3d(2, 3, 3), (normal(2, 2, 5, 6, 7),)),
    "linear": (nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3, bias=False)), (normal(2, 4, 5),)),
    "bmm": (Fn(torch.bmm), (normal(2, 3, 4), normal(2, 4, 5))),
    "matmul": (Fn(torch.matmul), (normal(2, 3, 4, 5), normal(2, 3, 5, 6))),
    "baddbmm": (Fn(torch.baddbmm), (normal(2, 3, 5), normal(2, 3, 4), normal(2, 4, 5))),
    "einsum": (Fn(lambda x, y: torch.einsum("bhid,bhjd->bhij", x, y)), (normal(2, 3, 4, 5), normal(2, 3, 6, 5))),
    "einsum with ...": (
        Fn(lambda x, y: torch.einsum("...ij,...jk->...ik", x, y)),
        (normal(2, 3, 4, 5), normal(2, 3, 5, 6)),
    ),
    "einsum of three": (
        Fn(lambda x, y, z: torch.einsum("bij,bjk,bkl->bil", x, y, z)),
        (normal(2, 3, 4), normal(2, 4, 5), normal(2, 5, 6)),
    ),
    "einsum of one": (Fn(lambda x: torch.einsum("bij->bji", x)), (normal(2, 3, 4),)),
    "attention": (Fn(F.scaled_dot_product_attention), QKV),
    "attention module": (Attention(), (normal(2, 6, 16),)),
}


def without_batch(args):
    return tuple(arg[:1] for arg in args)


def flops(model, args):
    """Count by running the model; the math backend is the one of which torch counts every product."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(*args)
    return counter.get_total_flops()


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_are_half_of_what_torch_counts_for_one_example(name):
    model, args = NETWORKS[name]
    program = capture(model.eval(), args)
    assert program.dynamic_batch
    assert 2 * cost(program).macs == flops(model, without_batch(args))


def test_a_vector_product():
    model = Fn(lambda x, y: x @ y)
    assert cost(capture(model, (normal(3, 5), normal(5)), dynamic_batch=False)).macs == 15
    assert cost(capture(model, (normal(5), normal(5)), dynamic_batch=False)).macs == 5


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_networks_by_hand(kind, gates):
    """Two layers, both directions: the second layer reads the outputs of both."""
    model = Fn(kind(5, 6, num_layers=2, bidirectional=True, batch_first=True))
    model.forward = lambda x: model.function(x)[0]
    steps = 7
    first, second = gates * 6 * (5 + 6), gates * 6 * (2 * 6 + 6)
    found = cost(capture(model, (normal(2, steps, 5),)))
    assert found.macs == steps * 2 * (first + second)


def test_grouped_query_attention_counts_every_query_head():
    model = Fn(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True))
    args = (normal(2, 8, 6, 4), normal(2, 2, 6, 4), normal(2, 2, 6, 4))
    assert cost(capture(model, args)).macs == 2 * 8 * 6 * 6 * 4


def test_the_batch_counts_once_if_it_is_dynamic_and_in_full_if_not():
    model = nn.Linear(4, 3)
    dynamic, fixed = capture(model, (normal(8, 4),)), capture(model, (normal(8, 4),), dynamic_batch=False)
    assert (cost(dynamic).macs, cost(fixed).macs) == (12, 8 * 12)
    assert cost(dynamic, 8) == cost(fixed, 8) == cost(fixed)


def test_macs_have_a_node():
    program = capture(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), (normal(2, 4),))
    assert list(macs_by_node(program).values()) == [12, 6]
    assert set(macs_by_node(program)) <= {node.name for node in program.graph.nodes}


def test_values_and_bytes():
    model = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2))
    with torch.no_grad():
        model[0].weight.view(-1)[:5] = 0
    found = cost(capture(model, (normal(2, 1, 4, 4),)))
    values, buffers = 18 + 2 + 2, 2 + 2
    assert found == Cost(
        parameters=values,
        nonzero=values - 5 - 2,  # five weights, and the norm's two biases, which start at zero
        macs=math.prod((2, 2, 2)) * 9,
        bytes=4 * (values + buffers) + 8,  # the norm counts its steps in an int64
        trainable=values,
    )
    assert found.as_dict() == {"parameters": 22, "nonzero": 15, "macs": 72, "bytes": 112, "trainable": 22}


def test_what_a_mask_hides_or_needs_no_gradient_is_not_trainable():
    program = capture(nn.Linear(4, 3), (normal(2, 4),))
    found = masking.masked(program, {"weight": torch.arange(12).view(3, 4) < 5})
    assert cost(found).trainable == 5 + 3
    still = replace(program, parameters={n: p.detach() for n, p in program.parameters.items()})
    assert cost(still).trainable == 0


def test_tied_parameters_count_once():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    found = cost(capture(model, (normal(2, 4),)))
    assert (found.parameters, found.bytes, found.macs) == (16, 64, 32)


def masked(program: Program, name: str, mask: torch.Tensor) -> Program:
    """Put `where(mask, weight, 0)` between a weight and what reads it."""
    graph = program.copy_graph()
    weight = next(node for node in graph.nodes if node.target == name)
    users = list(weight.users)
    with graph.inserting_after(weight):
        zero = graph.get_attr(f"{name}.base")
        keep = graph.get_attr(f"{name}.mask")
    zero.meta["val"], keep.meta["val"] = (weight.meta["val"].new_zeros(()), weight.meta["val"].bool())
    with graph.inserting_before(users[0]):
        chosen = graph.call_function(torch.ops.aten.where.self, (keep, weight, zero))
    chosen.meta["val"] = weight.meta["val"]
    for user in users:
        user.replace_input_with(weight, chosen)
    buffers = {**program.buffers, f"{name}.mask": mask, f"{name}.base": torch.zeros(())}
    return replace(program, graph=graph, buffers=buffers)


def test_what_a_mask_hides_is_zero():
    program = capture(nn.Linear(4, 3, bias=False), (normal(2, 4),))
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[0] = False
    found = masked(program, "weight", mask)
    assert cost(found).nonzero == 8
    assert (cost(found).parameters, cost(found).macs) == (12, 12)
    with torch.no_grad():
        program.parameters["weight"].view(-1)[3] = float("nan")  # hidden: whatever it holds, it is a zero
    assert cost(found).nonzero == 8
