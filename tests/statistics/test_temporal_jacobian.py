import pytest
import torch
from helpers.regression import Regression
from helpers.residual import wired
from helpers.stats import measure
from torch import nn
from torch.func import functional_call

LAYERS = {
    "tanh": lambda: nn.RNN(3, 4, batch_first=True),
    "relu": lambda: nn.RNN(3, 4, nonlinearity="relu"),
    "gru": lambda: nn.GRU(3, 4, bias=False),
    "lstm": lambda: nn.LSTM(3, 4, batch_first=True),
}


def program_of(layer, x=(2, 5, 3)):
    width = layer.hidden_size * (1 + layer.bidirectional)
    return wired(lambda s, x: s.head(s.a(x)[0].mean((0, 1)))[None], (torch.randn(*x),), a=layer,
                 head=nn.Linear(width, 2))  # fmt: skip


def chi(model, parameters, x):
    """The mean squared singular value, from Jacobians of one step of torch's own layer."""
    layer = model.a
    x = x.transpose(0, 1) if layer.batch_first else x
    lstm = isinstance(layer, nn.LSTM)
    state = tuple(x.new_zeros(1, x.shape[1], 4) for _ in range(1 + lstm))
    total = []
    for row in x:
        step = row[:, None] if layer.batch_first else row[None]

        def hidden(h, step=step, state=state):
            _, new = functional_call(layer, parameters, (step, (h, *state[1:]) if lstm else h))
            return (new[0] if lstm else new)[0].sum(0)

        jacobian = torch.autograd.functional.jacobian(hidden, state[0], create_graph=True)
        total.append(jacobian.square().sum((0, 1, 3)).mean() / 4)
        _, new = functional_call(layer, parameters, (step, state if lstm else state[0]))
        state = new if lstm else (new,)
    return torch.stack(total).mean()


def expected(model, batches):
    named = dict(model.a.named_parameters())
    totals = [torch.autograd.grad(chi(model, named, x), list(named.values())[:2]) for x in batches]
    return [sum(parts) / len(parts) for parts in zip(*totals, strict=True)]


@pytest.mark.parametrize("kind", LAYERS)
def test_it_is_the_gradient_of_the_mean_squared_singular_value(kind):
    model, program = program_of(LAYERS[kind]())
    found = measure(program, ["temporal-jacobian"]).found["temporal-jacobian"]
    assert found.keys() == {"a.weight_ih_l0", "a.weight_hh_l0"}
    for name, value in zip(("a.weight_ih_l0", "a.weight_hh_l0"), expected(model, program.example.args), strict=True):
        torch.testing.assert_close(found[name], value)
        assert not found[name].requires_grad


def test_several_batches_are_averaged():
    model, program = program_of(nn.GRU(3, 4))

    class Sequences(Regression):
        def loss(self, model, batch):
            return model(batch[0]).square().mean()

    task = Sequences(inputs=(5, 3), size=2, count=3)
    found = measure(program, ["temporal-jacobian"], task).found["temporal-jacobian"]
    value = expected(model, [x for x, _ in task.batches("train")])[1]
    torch.testing.assert_close(found["a.weight_hh_l0"], value)


def test_layers_and_directions_add_up():
    _, program = program_of(nn.LSTM(3, 4, 2, bidirectional=True))
    found = measure(program, ["temporal-jacobian"]).found["temporal-jacobian"]
    assert len(found) == 8
    assert all(value.shape == program.parameters[name].shape for name, value in found.items())
    assert all(bool(value.any()) for value in found.values())


def test_a_layer_with_projections_has_none():
    _, program = wired(lambda s, x: s.head(s.a(x)[0].mean(0)), (torch.randn(5, 2, 3),), a=nn.LSTM(3, 4, proj_size=2),
                       head=nn.Linear(2, 2))  # fmt: skip
    assert measure(program, ["temporal-jacobian"]).found["temporal-jacobian"] == {}


def test_the_parameters_get_no_gradient():
    _, program = program_of(nn.GRU(3, 4))
    measure(program, ["temporal-jacobian"])
    assert all(parameter.grad is None for parameter in program.parameters.values())
