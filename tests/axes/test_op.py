"""What a rule sees and says, and how a user's own operator gets one."""

import pytest
import torch
from torch import nn

import sparsify as sp
from sparsify.axes import axes
from sparsify.axes.op import RULES, Op, key_of
from sparsify.errors import ContractError, PassError
from sparsify.groups import groups_of


@torch.library.custom_op("axistest::scale", mutates_args=())
def scale(x: torch.Tensor, by: float) -> torch.Tensor:
    return x * by


@scale.register_fake
def _(x, by):
    return torch.empty_like(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 5)

    def forward(self, x):
        return self.b(torch.ops.axistest.scale(self.a(x), 0.5))


@pytest.fixture
def program():
    torch.manual_seed(0)
    return sp.capture(Net().eval(), (torch.randn(2, 3),))


def free(program):
    return {group.name: group.size for group in groups_of(axes(program)) if not group.frozen}


def test_an_operator_without_a_rule_freezes_what_it_touches(program):
    assert free(program) == {}
    assert axes(program).unknown == {"axistest::scale": ["scale"]}


def test_one_decorated_function_is_a_rule(program, monkeypatch):
    monkeypatch.setattr("sparsify.axes.op.RULES", RULES)
    monkeypatch.delitem(RULES, "axistest::scale", raising=False)

    @sp.axis_rule("axistest::scale")
    def rule(op):
        op.zero_where(op.arg(0))
        return op.dims(op.arg(0))

    try:
        assert free(program) == {"a": 8}
        small = sp.run(program, ["channel-prune:sparsity=0.5", "shrink"]).program
        assert small.parameters["a.weight"].shape == (4, 3)
    finally:
        RULES.pop("axistest::scale")
    assert rule.__name__ == "rule"


@pytest.mark.parametrize("name", ["scale", "my::lib::scale", ""])
def test_a_wrong_name_is_refused(name):
    with pytest.raises(ValueError, match="namespace::name"):
        sp.axis_rule(name)


def operation(program, name):
    found = axes(program)
    node = program.node(name)
    return Op(node, dict(found.dims), dict(found.contents))


def test_arguments_are_found_wherever_they_were_given():
    class Forms(nn.Module):
        def forward(self, x):
            return torch.softmax(x, dim=-1) + torch.sum(x, dim=1, keepdim=True)

    program = sp.capture(Forms(), (torch.randn(2, 3),))
    op = operation(program, "sum_1")
    assert op.arg(1, "dim") == [1]
    assert op.arg(2, "keepdim", False) is True
    assert op.arg(7, "nothing", "default") == "default"
    assert op.place(1, "dim") == 1
    assert op.place(9, "dim") == "dim"
    assert op.name == "sum.dim_IntList"
    assert key_of(op.node) == "aten::sum"
    assert [axis.size for axis in op.dims(op.arg(0))] == [2, 3]
    assert op.dims(3.0) == []


def test_broadcast_aligns_at_the_end():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.randn(4))

        def forward(self, x):
            return x + self.bias

    program = sp.capture(Sum(), (torch.randn(2, 3, 4),))
    op = operation(program, "add")
    result = op.broadcast(*op.node.args)
    assert [axis.size for axis in result] == [2, 3, 4]


def test_the_rule_of_an_operator_of_torch_cannot_be_replaced():
    with pytest.raises(ValueError, match="sparsify has a rule for aten::relu"):
        sp.axis_rule("aten::relu")(lambda op: op.dims(op.arg(0)))


@torch.library.custom_op("axistest::center", mutates_args=())
def center(x: torch.Tensor) -> torch.Tensor:
    return x - x.mean(-1, keepdim=True)


@center.register_fake
def _(x):
    return torch.empty_like(x)


def centered():
    class Centered(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.b(center(self.a(x)))

    return sp.capture(Centered(), (torch.randn(2, 4),))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda op: None, r"The axis rule of axistest::center returns no axis for each .* center \(axistest"),
        (lambda op: op.dims(op.arg(0))[1:], r"The axis rule of axistest::center returns no axis for each"),
        (lambda op: op.dims(op.arg(3))[0], r"The axis rule of axistest::center failed at center .*IndexError"),
    ],
)
def test_a_rule_that_fails_is_named(wrong, message, monkeypatch):
    monkeypatch.setitem(RULES, "axistest::center", wrong)
    with pytest.raises(PassError, match=message):
        axes(centered())


def test_a_wrong_rule_is_suspected_by_name(monkeypatch):
    def elementwise(op):
        op.zero_where(op.arg(0))
        return op.dims(op.arg(0))

    monkeypatch.setitem(RULES, "axistest::center", elementwise)
    with pytest.raises(ContractError, match=r"outputs differ .* The axis rule of axistest::center may be wrong\.$"):
        sp.run(centered(), ["channel-prune:sparsity=0.5", "shrink"])
