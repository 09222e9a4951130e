import pytest
import torch
import torch.nn.functional as F
from helpers.models import Net, equal_leaves, linear, rows, run, trains_like
from torch import nn

import sparsify as sp
from sparsify.normalize import tied_names


def relu_in_place(s, x):
    return s.l(F.relu(s.l(x), inplace=True))


def add_in_place(s, x):
    y = s.l(x)
    y += x
    y.mul_(2).clamp_(-1, 1)
    return y


def input_in_place(s, x):
    x += 1
    x[:, 0] *= 3
    return s.l(x)


def column(s, x):
    y = s.l(x)
    y[:, 0] += 1
    return s.l(y)


def chained_through_a_view(s, x):
    y = s.l(x)
    y[:, 0].add_(1).mul_(2)
    return s.l(y)


def view_read_later(s, x):
    y = s.l(x)
    flat = y.view(-1)
    y.add_(1)
    y.mul_(2)
    return flat.view(-1, 4) + y


def view_no_longer_read(s, x):
    y = s.l(x)
    total = y.view(-1).sum()
    y += 1
    return y + total


def fill(s, x):
    y = torch.zeros(x.shape[0], 6)
    y[:, :4] = s.l(x)
    y[:, 4:] = 1
    return y


def mask(s, x):
    y = s.l(x)
    z = y * 2
    y.masked_fill_(z > 0, 0.0)
    return y


def dropout_then_write(s, x):
    return s.d(s.l(x)).add_(1)


def old_value_read_before(s, x):
    y = s.l(x)
    doubled = y * 2
    y += 1
    return doubled + y


def other_type(s, x):
    y = (x > 0).float()
    y.ge_(0.5)
    half = s.l(x).half()
    half.add_(x)
    return half.float() + y


IN_PLACE = [
    relu_in_place,
    add_in_place,
    input_in_place,
    column,
    chained_through_a_view,
    view_read_later,
    view_no_longer_read,
    fill,
    mask,
    dropout_then_write,
    old_value_read_before,
    other_type,
]


def net(function):
    return Net(function, **linear(d=nn.Dropout(0.5, inplace=True), k=nn.Linear(4, 4)))


@pytest.mark.parametrize("function", IN_PLACE, ids=lambda f: f.__name__)
def test_writes_in_place_stay_right(function):
    model = net(function)
    program = sp.capture(model, (rows(),))
    assert program.notes == ()
    assert equal_leaves(run(program.module(), [rows(5)]), run(model.eval(), [rows(5)]))
    assert trains_like(program, model, [rows()])


def writes(program):
    return [node.name for node in program.graph.nodes if "_." in str(node.target)]


@pytest.mark.parametrize("function", [relu_in_place, add_in_place, view_no_longer_read, mask, dropout_then_write])
def test_what_nothing_else_aliases_becomes_pure(function):
    assert not writes(sp.capture(net(function), (rows(),)))


@pytest.mark.parametrize("function", [column, view_read_later, fill, other_type])
def test_what_a_view_or_a_type_needs_stays_in_place(function):
    assert writes(sp.capture(net(function), (rows(),)))


def without_gradient(s, x):
    with torch.no_grad():
        y = s.l(x)
    return s.k(y) + s.l(x)


def gradient_within_without(s, x):
    with torch.no_grad():
        y = s.l(x)
        with torch.enable_grad():
            z = s.k(y)
    return z + y


def passed_through(s, x):
    y = s.l(x)
    with torch.no_grad():
        scale = y.abs().max()
    return s.k(y / scale)


def without_autocast(s, x):
    with torch.autocast("cpu", enabled=False):
        y = s.l(x)
    return s.k(y)


def both(s, x):
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        y, z = s.l(x).chunk(2, -1)
    return s.k(x) + torch.cat([z, y], -1)


@pytest.mark.parametrize(
    "function",
    [without_gradient, gradient_within_without, passed_through, without_autocast, both],
    ids=lambda f: f.__name__,
)
def test_regions_are_inlined_and_keep_their_gradients(function):
    model = net(function)
    program = sp.capture(model, (rows(),))
    assert program.notes == ()
    assert all(node.op != "call_module" and "wrap_with" not in str(node.target) for node in program.graph.nodes)
    loss = [program.module(training=True), model.train()]
    gradients = []
    for module in loss:
        module.zero_grad()
        module(rows()).square().sum().backward()
        gradients.append({name: p.grad for name, p in module.named_parameters()})
    found, expected = gradients
    for name, gradient in found.items():
        assert (gradient is None) == (expected[name] is None)
        assert gradient is None or torch.equal(gradient, expected[name])


def moving_average(s, x):
    y = s.l(x)
    with torch.no_grad():
        s.l.average.mul_(0.9).add_(y.mean(0), alpha=0.1)
    return y + s.l.average


def test_a_moving_average_without_gradient_can_be_trained():
    model = net(moving_average)
    model.l.register_buffer("average", torch.zeros(4))
    program = sp.capture(model, (rows(),))
    assert trains_like(program, model, [rows()])
    assert torch.equal(model.l.average, torch.zeros(4))


def test_spectral_norm_can_be_trained():
    torch.manual_seed(0)
    model = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4), n_power_iterations=8)
    before = model.parametrizations.weight[0]._u.clone()
    module = sp.capture(model, (rows(),)).module(training=True)
    for _ in range(2):
        module(rows()).sum().backward()
    assert torch.equal(model.parametrizations.weight[0]._u, before)


def test_a_parameter_has_one_node_before_the_first_input():
    program = sp.capture(Net(lambda s, x: s.l(s.l(x)), **linear()), (rows(),))
    kinds = [node.op for node in program.graph.nodes]
    assert kinds == ["get_attr", "get_attr", "placeholder", "call_function", "call_function", "output"]


def test_tied_names():
    one, other = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    empty = torch.empty(0)
    named = [
        ("a", one),
        ("b", other),
        ("c", one),
        ("d", one.view(3)),
        ("e", empty),
        ("f", torch.empty(0)),
        ("g", empty),
    ]
    assert tied_names(named) == {"c": "a", "d": "a", "g": "e"}
    assert tied_names([("a", one), ("part", one[:2])]) == {}
