import pytest
import torch
from helpers.residual import mlp, wired
from torch import nn

from sparsify.axes.op import key_of
from sparsify.layers import layers
from sparsify.observation.watching import Watched


def chain():
    return wired(lambda s, x: s.b(torch.tanh(s.a(x))), (torch.randn(2, 3),), a=nn.Linear(3, 4), b=nn.Linear(4, 2))


def nodes(program, key):
    return [node for node in program.graph.nodes if node.op == "call_function" and key_of(node) == key]


def run(watched, program):
    with torch.no_grad():
        return watched.ready()(*program.example.args)


def test_looking_gives_the_arguments_of_an_operator_and_changes_nothing():
    model, program = chain()
    x = program.example.args[0]
    seen = []
    watched = Watched(program)
    watched.look(nodes(program, "aten::linear")[1], lambda *args: seen.append(args))
    with torch.no_grad():
        assert torch.equal(run(watched, program), model(x))
        ((value, weight, bias),) = seen
        torch.testing.assert_close(value, torch.tanh(model.a(x)))
    assert torch.equal(weight, model.b.weight)
    assert torch.equal(bias, model.b.bias)


def test_several_values_are_looked_at_when_the_last_of_them_is_there():
    _, program = chain()
    first, second = nodes(program, "aten::linear")
    order = []
    watched = Watched(program)
    watched.look_at([second, first], lambda b, a: order.append((a.shape[1], b.shape[1])))
    watched.look(second, lambda *args: order.append("second"))
    run(watched, program)
    assert order == ["second", (4, 2)]


def test_a_changed_argument_is_seen_by_its_reader_alone():
    model, program = wired(lambda s, x: s.b(s.a(x)) + s.c(s.a(x)) * 0 + s.a(x), (torch.randn(2, 4),),
                           **{name: nn.Linear(4, 4) for name in "abc"})  # fmt: skip
    by_name = {layer.parameter: layer for layer in layers(program)}
    reader = by_name["b.weight"]
    watched = Watched(program)
    watched.change(reader.node, reader.x, lambda x: 2 * x)
    with torch.no_grad():
        h = model.a(program.example.args[0])
        torch.testing.assert_close(run(watched, program), model.b(2 * h) + h)


def test_changes_of_one_argument_follow_each_other():
    model, program = chain()
    reader = layers(program)[1]
    watched = Watched(program)
    watched.change(reader.node, reader.x, lambda x: x + 1)
    watched.change(reader.node, reader.x, lambda x: 3 * x)
    with torch.no_grad():
        h = torch.tanh(model.a(program.example.args[0]))
        torch.testing.assert_close(run(watched, program), model.b(3 * (h + 1)))


def test_a_changed_result_is_seen_by_everyone():
    model, program = wired(
        lambda s, x: s.b(s.a(x)) + s.a(x), (torch.randn(2, 4),), a=nn.Linear(4, 4), b=nn.Linear(4, 4)
    )
    first, second, again = nodes(program, "aten::linear")
    shared = first if second.args[0] is first else second
    assert len({first, second, again}) == 3
    watched = Watched(program)
    watched.result(shared, torch.zeros_like)
    with torch.no_grad():
        h = model.a(program.example.args[0])
        torch.testing.assert_close(run(watched, program), model.b(0 * h) + h)


@pytest.mark.parametrize("result_first", [True, False])
def test_a_changed_result_and_a_changed_argument_add_up_in_any_order(result_first):
    model, program = mlp(depth=1)
    reader = next(layer for layer in layers(program) if layer.parameter == "head.weight")
    watched = Watched(program)
    changes = [
        lambda: watched.result(reader.x, lambda x: x + 1),
        lambda: watched.change(reader.node, reader.x, lambda x: 5 * x),
    ]
    for change in changes if result_first else reversed(changes):
        change()
    with torch.no_grad():
        x = model.stem(program.example.args[0])
        x = x + model.blocks[0](x)
        torch.testing.assert_close(run(watched, program), model.head(5 * (x + 1)))


def test_a_changed_result_can_be_made_from_others():
    model, program = chain()
    first, _ = nodes(program, "aten::linear")
    (placeholder,) = (node for node in program.graph.nodes if node.op == "placeholder")
    watched = Watched(program)
    watched.result(first, lambda h, x: h * 0 + x.sum(), placeholder)
    with torch.no_grad():
        x = program.example.args[0]
        torch.testing.assert_close(run(watched, program), model.b(torch.tanh(x.sum()).expand(2, 4)))


def test_eyes_see_what_was_there_before_the_hands():
    model, program = chain()
    reader = layers(program)[1]
    seen = []
    watched = Watched(program)
    watched.change(reader.node, reader.x, lambda x: 0 * x)
    watched.look_at([reader.x], seen.append)
    with torch.no_grad():
        run(watched, program)
        torch.testing.assert_close(seen[0], torch.tanh(model.a(program.example.args[0])))


class Noisy(nn.Module):
    """x / 0.5 * noise in training, x in evaluation."""

    def forward(self, x):
        return x / 0.5 * torch.bernoulli(x.new_full((x.shape[0], 1), 0.5)) if self.training else x


def test_values_that_training_alone_has_are_seen_as_evaluation_has_them():
    model, program = wired(lambda s, x: s.b(s.noise(s.a(x))), (torch.randn(2, 3),), a=nn.Linear(3, 4), noise=Noisy(),
                           b=nn.Linear(4, 2))  # fmt: skip
    reader = layers(program)[1]
    assert reader.x is not layers(program)[0].node  # noise stands between them
    seen = []
    watched = Watched(program)
    watched.look_at([reader.x], seen.append)
    watched.change(reader.node, reader.x, lambda x: 2 * x)
    with torch.no_grad():
        found = run(watched, program)
        h = model.a(program.example.args[0])
        torch.testing.assert_close(seen[0], h)
        torch.testing.assert_close(found, model.b(2 * h))


def test_it_shares_the_tensors_and_leaves_the_program_alone():
    _, program = chain()
    text = str(program)
    watched = Watched(program)
    watched.look(nodes(program, "aten::linear")[0], lambda *args: None)
    ready = watched.ready()
    assert ready(*program.example.args).requires_grad
    assert {id(p) for p in ready.parameters()} == {id(p) for p in program.parameters.values()}
    assert str(program) == text
    assert not ready.training
