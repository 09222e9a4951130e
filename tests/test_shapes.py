import pytest
import torch
from torch import nn

import sparsify as sp
from sparsify import verify
from sparsify.errors import PassError
from sparsify.shapes import KnownShapes, propagate_shapes

aten = torch.ops.aten


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        for layer in (self.first, self.second):
            x = x + layer(x).view(x.shape[0], 2, 4).flatten(1)
        return x


@pytest.fixture
def program():
    return sp.capture(Mixer(), (torch.randn(3, 8),))


def shapes(program):
    return [str(getattr(node.meta.get("val"), "shape", None)) for node in program.graph.nodes]


def view(graph):
    return next(node for node in graph.nodes if node.target is aten.view.default)


def test_known_calls_give_the_same_shapes_as_deriving_them(program):
    with_known, without = program.with_graph(program.copy_graph()), program.with_graph(program.copy_graph())
    propagate_shapes(with_known, KnownShapes(program))
    propagate_shapes(without)
    assert shapes(with_known) == shapes(without) == shapes(program)


def test_a_call_that_changed_is_derived_again_and_refused(program):
    known, graph = KnownShapes(program), program.copy_graph()
    view(graph).update_arg(1, [view(graph).args[1][0], 2, 5])
    with pytest.raises(PassError, match=r"shapes do not fit at view"):
        propagate_shapes(program.with_graph(graph), known)


def test_what_is_known_outlives_an_edit_of_the_graph_it_was_taken_from(program):
    known = KnownShapes(program)
    view(program.graph).update_arg(1, [view(program.graph).args[1][0], 2, 5])
    with pytest.raises(PassError, match=r"shapes do not fit at view"):
        propagate_shapes(program, known)


def test_a_parameter_of_another_size_makes_another_call(program):
    from dataclasses import replace

    known = KnownShapes(program)
    smaller = {**program.parameters, "first.weight": nn.Parameter(torch.randn(8, 7))}
    with pytest.raises(PassError, match=r"shapes do not fit at linear"):
        propagate_shapes(replace(program, parameters=smaller), known)


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True)])
def test_constants_that_are_equal_but_of_another_type_are_another_call(one, other):
    class Add(nn.Module):
        def forward(self, x):
            return x + one

    program = sp.capture(Add(), (torch.ones(3, 2, dtype=torch.bool if other is True else torch.int64),))
    graph = program.copy_graph()
    add = next(node for node in graph.nodes if node.target is aten.add.Tensor)
    add.update_arg(1, other)
    changed = program.with_graph(graph)
    propagate_shapes(changed, KnownShapes(program))
    expected = program.with_graph(changed.copy_graph())
    propagate_shapes(expected)
    assert verify.signature(changed) == verify.signature(expected)


def test_programs_of_another_capture_share_nothing(program):
    other = sp.capture(Mixer(), (torch.randn(3, 8),))
    propagate_shapes(other, KnownShapes(program))
    assert all(
        node.meta["val"].fake_mode is not KnownShapes(program).fake_mode
        for node in other.graph.nodes
        if isinstance(node.meta.get("val"), torch.Tensor) and node.op == "call_function"
    )


def test_a_masked_weight_has_the_type_of_the_weight_and_nothing_behind_it_is_derived(program, monkeypatch):
    import sparsify.shapes
    from sparsify.masking import masked

    known, target = KnownShapes(program), aten.where.ScalarOther
    masks = {name: torch.ones(value.shape, dtype=torch.bool) for name, value in program.parameters.items()}
    changed = masked(program, masks)
    derived = []
    derive = sparsify.shapes._derive
    monkeypatch.setattr(sparsify.shapes, "_derive", lambda node: derived.append(node.target) or derive(node))
    propagate_shapes(changed, known)
    assert set(derived) == {target}
    for node in changed.graph.nodes:
        if node.target is target:
            assert node.meta["val"] is node.args[1].meta["val"]
            mask, weight = (
                torch.empty_strided(v.shape, v.stride(), dtype=v.dtype)
                for v in (value.meta["val"] for value in node.args[:2])
            )
            real = torch.where(mask, weight, 0.0)
            assert (real.dtype, real.shape, real.stride()) == (weight.dtype, weight.shape, weight.stride())


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (1, 0, 2, 3)])
@pytest.mark.parametrize("along", [(0,), (1,), (0, 1), (2, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("weight_order", [(0, 1, 2, 3), (0, 2, 3, 1)])
def test_a_masked_weights_layout_is_what_torch_makes_of_it(order, along, weight_order):
    from torch._subclasses import FakeTensorMode

    from sparsify.shapes import _derive, fake

    shape = (4, 3, 2, 5)

    def laid_out(dtype, order, sizes):
        value = torch.ones([sizes[dim] for dim in order], dtype=dtype)
        return value.permute([order.index(dim) for dim in range(4)]).expand(shape)

    mask = laid_out(torch.bool, order, [size if dim in along else 1 for dim, size in enumerate(shape)])
    weight = laid_out(torch.float32, weight_order, shape)
    mode, graph = FakeTensorMode(), torch.fx.Graph()
    nodes = [graph.create_node("get_attr", name) for name in ("mask", "weight")]
    for node, value in zip(nodes, (mask, weight), strict=True):
        node.meta["val"] = fake(value, mode)
    with mode:
        found = _derive(graph.call_function(aten.where.ScalarOther, (*nodes, 0.0)))
    assert found.stride() == torch.where(mask, weight, 0.0).stride()
