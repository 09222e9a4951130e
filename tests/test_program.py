from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from helpers.models import ConvNet, Net, equal_leaves, images, linear, rows, run, train
from torch import fx, nn

import sparsify as sp
from sparsify.program import Example

GOLDEN = """\
%x: float32[batch, 3, 6, 6] = input
%conv2d: float32[batch, 4, 4, 4] = conv2d(%x, conv.weight, conv.bias)
%add_: int64[] = add_.Tensor(norm.num_batches_tracked, 1)
%batch_norm: float32[batch, 4, 4, 4] = batch_norm(%conv2d, norm.weight, norm.bias, norm.running_mean, norm.running_var, True, 0.1, 1e-05, True)
%relu: float32[batch, 4, 4, 4] = relu(%batch_norm)
%dropout: float32[batch, 4, 4, 4] = dropout(%relu, 0.5, True)
%mean: float32[batch, 4] = mean.dim(%dropout, [2, 3])
%linear: float32[batch, 2] = linear(%mean, head.weight, head.bias)
return [%linear]"""  # noqa: E501

WITHOUT_NORM = """\
%x: float32[batch, 3, 6, 6] = input
%conv2d: float32[batch, 4, 4, 4] = conv2d(%x, conv.weight, conv.bias)
%relu: float32[batch, 4, 4, 4] = relu(%conv2d)
%dropout: float32[batch, 4, 4, 4] = dropout(%relu, 0.5, True)
%mean: float32[batch, 4] = mean.dim(%dropout, [2, 3])
%linear: float32[batch, 2] = linear(%mean, head.weight, head.bias)
return [%linear]"""


@pytest.fixture(scope="module")
def program():
    return sp.capture(ConvNet().eval(), (images(),))


def without_norm(program):
    graph = program.copy_graph()
    node = next(node for node in graph.nodes if node.name == "batch_norm")
    node.replace_all_uses_with(node.args[0])
    return program.with_graph(graph)


def test_the_text_before_and_after(program):
    assert str(program).replace("1e-05, False)", "1e-05, True)") == GOLDEN  # the last flag: is there a cuDNN
    assert str(without_norm(program)) == WITHOUT_NORM


def test_a_console_shows_one_line(program):
    assert repr(program) == "<Program: 130 parameters, 1 input, dynamic batch>"
    two = sp.capture(nn.Bilinear(4, 4, 2), (rows(), rows()), dynamic_batch=False)
    assert repr(two) == "<Program: 34 parameters, 2 inputs, fixed batch>"
    pruned = sp.run(program, ["weight-prune:sparsity=0.5"]).program
    assert repr(pruned) == "<Program: 130 parameters, 1 input, dynamic batch, 2 masks>"


def test_dropping_a_node_drops_its_state_and_its_counter(program):
    smaller = without_norm(program)
    assert smaller.parameters.keys() == {"conv.weight", "conv.bias", "head.weight", "head.bias"}
    assert smaller.buffers == {}
    assert str(program) != str(smaller)
    assert smaller.module()(images(5)).shape == (5, 2)


def test_unused_aliases_and_transient_names_are_dropped(program):
    more = replace(
        program, aliases={"twin": "norm.weight", "other": "conv.weight"}, transient=frozenset({"norm.running_var"})
    )
    smaller = without_norm(more)
    assert smaller.aliases == {"other": "conv.weight"}
    assert smaller.transient == frozenset()


def test_a_program_is_immutable(program):
    with pytest.raises(FrozenInstanceError):
        program.history = ()
    for mapping in (program.parameters, program.buffers, program.aliases):
        with pytest.raises(TypeError):
            mapping["new"] = torch.ones(1)


def test_the_round_trip_of_state():
    program = sp.capture(ConvNet(), (images(),))
    program.parameters["conv.bias"].requires_grad_(False)
    module = program.module(training=True)
    train(module, [images()])
    trained = program.with_state(module)
    assert equal_leaves(run(trained.module(), [images()]), run(module.eval(), [images()]))
    assert trained.buffers["norm.num_batches_tracked"] == 3
    assert not trained.parameters["conv.bias"].requires_grad
    values = trained.parameters["conv.weight"].clone()
    train(module.train(), [images()])
    assert torch.equal(trained.parameters["conv.weight"], values)


def test_state_of_another_module_is_refused(program):
    with pytest.raises(KeyError, match=r"conv.weight"):
        program.with_state(nn.Linear(1, 1))


def test_history_and_notes(program):
    changed = program.applied("one:a=1").applied("two").noted("careful")
    assert changed.history == ("one:a=1", "two")
    assert changed.notes == ("careful",)
    assert program.history == program.notes == ()


def test_with_example(program):
    changed = program.with_example((images(3),), {}, synthetic=True)
    assert changed.example.synthetic
    assert changed.example.args[0].shape[0] == 3


def test_leaves_are_in_the_order_of_the_placeholders():
    class Model(nn.Module):
        def forward(self, x, pair, *, flag, named):
            return (x + pair["b"]) * pair["a"] * named if flag else x

    args, kwargs = (rows(), {"b": rows(seed=2), "a": rows(seed=3)}), {"named": rows(seed=4), "flag": True}
    program = sp.capture(Model(), args, kwargs)
    assert len(program.placeholders) == len(program.example.leaves()) == 5
    with torch.no_grad():
        found = fx.Interpreter(program.module()).run(*program.example.leaves(), enable_io_processing=False)
    assert torch.equal(found[0], Model()(*args, **kwargs))
    assert Example((1, [2]), {"b": 3}).leaves() == [1, 2, 3]


def test_nodes_by_name(program):
    assert program.node("relu").target is torch.ops.aten.relu.default
    with pytest.raises(KeyError, match="absent"):
        program.node("absent")


def test_masks_in_the_graph():
    program = sp.capture(Net(lambda s, x: s.l(x), **linear()), (rows(),))
    assert program.masks == {}
    graph = program.copy_graph()
    weight = next(node for node in graph.nodes if node.target == "l.weight")
    with graph.inserting_after(weight):
        mask = graph.create_node("get_attr", "l.weight_mask")
    with graph.inserting_after(mask):
        masked = graph.call_function(torch.ops.aten.where.self, (mask, weight, 0.0))
    weight.replace_all_uses_with(masked, delete_user_cb=lambda user: user is not masked)
    kept = torch.eye(4, dtype=torch.bool)
    pruned = replace(program, graph=graph, buffers={"l.weight_mask": kept})
    assert list(pruned.masks) == ["l.weight"]
    assert torch.equal(pruned.masks["l.weight"], kept)
    assert "where.self(l.weight_mask, l.weight, 0.0)" in str(pruned)


def test_the_batch_symbol_and_its_spelling(program):
    assert program.dynamic_batch
    assert program.spelled(f"[{program.batch_symbol}, 3]") == "[batch, 3]"
    fixed = sp.capture(nn.Linear(4, 4), (rows(),), dynamic_batch=False)
    assert fixed.batch_symbol is None
    assert fixed.spelled("[s0, 3]") == "[s0, 3]"
    assert str(fixed).startswith("%input_1: float32[3, 4] = input")


def test_the_text_of_tuples_and_constants():
    text = str(sp.capture(Net(lambda s, x: (s.l(x).chunk(2, -1), x.shape[0], None), **linear()), (rows(),)))
    assert "%chunk: (float32[batch, 2], float32[batch, 2]) = chunk(%linear, 2, -1)" in text
    assert "%getitem: float32[batch, 2] = getitem(%chunk, 0)" in text
    assert text.endswith("None]")
