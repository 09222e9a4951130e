"""Every kind of operator: the rows that it is said to get times the matrices of its weight are what it computes."""

import pytest
import torch
from helpers.residual import wired
from helpers.zoo import FAMILIES
from torch import nn
from torch.nn import functional as F

import sparsify as sp
from sparsify.axes.op import key_of
from sparsify.layers import layers
from sparsify.masking import masked
from sparsify.observation.watching import Watched


class With(nn.Module):
    """A parameter of a shape and a function of an input and it."""

    def __init__(self, use, *shape, bias=None):
        super().__init__()
        self.use, self.weight = use, nn.Parameter(torch.randn(*shape))
        self.bias = None if bias is None else nn.Parameter(torch.zeros(*bias))

    def forward(self, x):
        return self.use(x, self.weight) if self.bias is None else self.use(self.bias, x, self.weight)


def found(module, *shape):
    _, program = wired(lambda s, x: s.a(x), (torch.randn(*shape),), a=module)
    return program, layers(program)


def products(program, layer):
    """Return the rows times the matrices of the weight `[G, N, O]`, and what the operator returns."""
    seen = {}
    watched = Watched(program)
    watched.look(layer.node, lambda *args: seen.update(rows=layer.rows(args)))
    watched.look_at([layer.node], lambda value: seen.update(value=value))
    with torch.no_grad():
        watched.ready()(*program.example.args, **program.example.kwargs)
        matrices = layer.layout.matrices(program.parameters[layer.parameter])
        rows = seen["rows"]
        matrices = matrices.to(seen["value"].dtype)
        if isinstance(rows, list):
            return torch.cat([part @ matrix.T for part, matrix in zip(rows, matrices, strict=True)]), seen["value"]
        return rows @ matrices.mT, seen["value"]


LINEAR = {
    "linear": (nn.Linear(3, 4, bias=False), (2, 5, 3)),
    "mm": (With(torch.mm, 3, 4), (2, 3)),
    "matmul": (With(torch.matmul, 3, 4), (2, 5, 3)),
    "addmm": (With(torch.addmm, 3, 4, bias=(4,)), (2, 3)),
    "transposed operand": (With(lambda x, w: x @ w.t(), 4, 3), (2, 3)),
    "swapped operand": (With(lambda x, w: x @ w.transpose(0, 1), 4, 3), (2, 3)),
    "permuted operand": (With(lambda x, w: x @ w.permute(1, 0), 4, 3), (2, 3)),
    "T": (With(lambda x, w: x @ w.T, 4, 3), (2, 3)),
    "twice transposed": (With(lambda x, w: F.linear(x, w.t().t()), 4, 3), (2, 3)),
    "cast": (With(lambda x, w: x.double() @ w.double(), 3, 4), (2, 3)),
}


@pytest.mark.parametrize("name", LINEAR)
def test_products_with_a_matrix(name):
    program, (layer,) = found(LINEAR[name][0], *LINEAR[name][1])
    rows, value = products(program, layer)
    assert (layer.parameter, layer.module) == ("a.weight", "a")
    torch.testing.assert_close(rows[0].to(value.dtype), value.reshape(-1, 4))


BATCHED = {
    "bmm": (With(torch.bmm, 2, 3, 4), (2, 5, 3)),
    "batched matmul": (With(torch.matmul, 2, 3, 4), (2, 5, 3)),
    "baddbmm": (With(torch.baddbmm, 2, 3, 4, bias=(2, 1, 4)), (2, 5, 3)),
    "permuted": (With(lambda x, w: torch.bmm(x, w.permute(2, 1, 0)), 4, 3, 2), (2, 5, 3)),
}


@pytest.mark.parametrize("name", BATCHED)
def test_products_with_a_matrix_for_every_index(name):
    program, (layer,) = found(BATCHED[name][0], *BATCHED[name][1])
    rows, value = products(program, layer)
    torch.testing.assert_close(rows, value)


CONVOLUTIONS = {
    "conv1d": (nn.Conv1d(4, 6, 3, bias=False, padding=1), (2, 4, 9)),
    "conv2d": (nn.Conv2d(4, 6, (3, 2), 2, bias=False, dilation=2), (2, 4, 9, 8)),
    "conv3d": (nn.Conv3d(4, 6, 2, bias=False), (2, 4, 3, 4, 3)),
    "same": (nn.Conv2d(4, 6, 4, bias=False, padding="same"), (2, 4, 9, 8)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2, bias=False), (2, 4, 5, 5)),
    "depthwise": (nn.Conv1d(4, 8, 3, groups=4, bias=False), (2, 4, 5)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name):
    program, (layer,) = found(CONVOLUTIONS[name][0], *CONVOLUTIONS[name][1])
    rows, value = products(program, layer)
    groups = layer.layout.groups
    rows = rows.view(groups, 2, -1, rows.shape[-1]).permute(1, 0, 3, 2)
    torch.testing.assert_close(rows.reshape(value.shape), value)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d])
def test_transposed_convolutions(kind, groups):
    n = int(kind.__name__[-2])
    layer_ = kind(4, 6, 2, stride=2, groups=groups, bias=False)  # patches of the output do not overlap
    program, (layer,) = found(layer_, 2, 4, *[3] * n)
    rows, value = products(program, layer)
    rows = rows.view(groups, 2, *[3] * n, 6 // groups, *[2] * n)
    pairs = [dim for i in range(n) for dim in (2 + i, 3 + n + i)]
    torch.testing.assert_close(rows.permute(1, 0, 2 + n, *pairs).reshape(value.shape), value)


def test_the_input_is_the_argument_that_is_multiplied():
    for module, shape in [LINEAR["linear"], LINEAR["addmm"], BATCHED["baddbmm"], CONVOLUTIONS["grouped"]]:
        _, (layer,) = found(module, *shape)
        assert layer.x.op == "placeholder"


def test_a_bilinear_layer():
    model = nn.Bilinear(3, 4, 5)
    program = sp.capture(model, (torch.randn(2, 3), torch.randn(2, 4)))
    (layer,) = layers(program)
    assert (layer.parameter, layer.x, layer.rows) == ("weight", None, None)
    assert layer.layout.matrices(model.weight).shape == (1, 5, 12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", ["lstm", "gru", "tanh", "relu"])
def test_recurrent_layers(kind, count, bias):
    make = {"lstm": nn.LSTM, "gru": nn.GRU}.get(kind, nn.RNN)
    options = {"nonlinearity": kind} if make is nn.RNN else {}
    module = make(3, 4, count, bias=bias, **options)
    _, program = wired(lambda s, x: s.a(x)[0], (torch.randn(5, 2, 3),), a=module)
    names = [name for name in dict(module.named_parameters()) if name.startswith("weight")]
    assert [layer.parameter for layer in layers(program)] == [f"a.{name}" for name in names]
    assert all(layer.x is None and layer.rows is None for layer in layers(program))
    assert all(layer.layout.outputs == (0,) and layer.layout.inputs == (1,) for layer in layers(program))


def test_the_weight_of_gpt2_has_its_inputs_first():
    model, args, kwargs = FAMILIES["gpt2"]()
    program = sp.capture(model, args, kwargs)
    layer = next(layer for layer in layers(program) if layer.parameter.endswith("h.0.mlp.c_fc.weight"))
    assert program.parameters[layer.parameter].shape == (48, 80)
    assert (layer.layout.outputs, layer.layout.inputs) == ((1,), (0,))
    rows, value = products(program, layer)
    bias = program.parameters[layer.parameter.replace("weight", "bias")]
    torch.testing.assert_close((rows[0] + bias).detach(), value.reshape(-1, 80))


def test_a_masked_weight_is_found_through_its_mask():
    model, program = wired(lambda s, x: s.b(s.a(x)), (torch.randn(2, 3, 5),), a=nn.Conv1d(3, 4, 2), b=nn.Linear(4, 2))
    masks = {name: torch.rand(value.shape) < 0.5 for name, value in program.parameters.items()}
    assert [layer.parameter for layer in layers(masked(program, masks))] == ["a.weight", "b.weight"]
    assert model is not None


def test_experts_are_matrices_of_a_batch_with_rows_of_their_own():
    model, args, kwargs = FAMILIES["mixtral"]()
    program = sp.capture(model, args, kwargs)
    layer = next(layer for layer in layers(program) if layer.parameter.endswith("layers.0.mlp.experts.gate_up_proj"))
    weight = program.parameters[layer.parameter]
    assert layer.layout.matrices(weight).shape[0] == 4 == weight.shape[0]
    rows, value = products(program, layer)
    torch.testing.assert_close(rows.reshape(value.shape), value)


def test_every_matrix_of_a_family_has_its_layer():
    for name in ("bert", "llama", "mixtral", "convnext", "t5"):
        model, args, kwargs = FAMILIES[name]()
        known = {layer.parameter for layer in layers(sp.capture(model, args, kwargs))}
        modules = [(path, m) for path, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
        tied = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        assert {f"{path}.weight" for path, m in modules if id(m.weight) not in tied} <= known


def test_a_weight_that_several_operators_read_has_several_layers():
    from transformers import AlbertConfig, AlbertModel

    config = AlbertConfig(vocab_size=31, embedding_size=8, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
                          intermediate_size=20, max_position_embeddings=16)  # fmt: skip
    torch.manual_seed(0)
    program = sp.capture(AlbertModel(config).eval(), kwargs={"input_ids": torch.randint(1, 31, (2, 5))})
    names = [layer.parameter for layer in layers(program)]
    shared = next(name for name in names if name.endswith("ffn.weight"))
    assert names.count(shared) == 3
    nodes = [layer.node for layer in layers(program) if layer.parameter == shared]
    assert len(set(nodes)) == 3
    assert {key_of(node) for node in nodes} == {"aten::linear"}


def test_products_of_values_have_no_layer():
    _, program = wired(lambda s, x: (s.a(x) @ s.a(x).mT).sum() + x.mean(), (torch.randn(2, 3),), a=nn.Linear(3, 4))
    assert {layer.parameter for layer in layers(program)} == {"a.weight"}


def test_a_weight_that_is_computed_has_no_layer():
    _, known = found(With(lambda x, w: x @ torch.tanh(w), 3, 4), 2, 3)
    assert known == []


def test_biases_are_named():
    _, program = wired(lambda s, x: s.c(s.b(s.a(x).flatten(1))), (torch.randn(2, 3, 5),), a=nn.Conv1d(3, 4, 2),
                       b=nn.Linear(16, 4, bias=False), c=With(torch.addmm, 4, 2, bias=(2,)))  # fmt: skip
    assert [layer.bias for layer in layers(program)] == ["a.bias", None, "c.bias"]
