import numpy as np
import onnx
import pytest
import torch
from helpers.onnx_files import model_of, rand, save
from onnx import helper
from torch import nn

import sparsify as sp
from sparsify.errors import InputError
from sparsify.freezing import frozen, redrawn
from sparsify.onnx_in.reading import OPSETS, read_model

X = {"x": (1, ["batch", 4])}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def plain(opset=17, **more):
    return model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], X, ["y"], {"w": rand(4, 3)}, opset=opset, **more)


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_that_is_named_is_read(opset, path):
    assert read_model(save(plain(opset), path)).opset_imports[""] == opset


@pytest.mark.parametrize("opset", [1, 10, 24, 99])
def test_other_opsets_are_refused(opset, path):
    with pytest.raises(InputError, match=f"uses opset {opset}; sparsify reads 11 to 23"):
        read_model(save(plain(opset), path))


def test_a_file_without_an_opset_is_refused(path):
    model = plain()
    del model.opset_import[:]
    with pytest.raises(InputError, match="does not say which version"):
        read_model(save(model, path))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95, 0.999])
def test_truncated_files_are_refused(share, path):
    whole = plain().SerializeToString()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match="damaged"):
        read_model(path)


def test_any_cut_is_noticed(path):
    whole = plain().SerializeToString()
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            read_model(path)


def test_all_operators_that_are_not_read_are_listed_at_once(path):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["a"], name="first"),
        helper.make_node("DequantizeLinear", ["a", "s"], ["b"], name="back"),
        helper.make_node("QuantizeLinear", ["x", "s"], ["c"]),
        helper.make_node("FastGelu", ["b"], ["d"], domain="com.microsoft"),
        helper.make_node("If", ["x"], ["y"], then_branch=helper.make_graph(
            [helper.make_node("NonZero", ["b"], ["e"])], "then", [], [])),
    ]  # fmt: skip
    with pytest.raises(InputError) as caught:
        read_model(save(model_of(nodes, X, ["y"], {"s": np.array(1, np.float32)}), path))
    text = str(caught.value)
    assert "QuantizeLinear (2x, such as 'first')" in text or "QuantizeLinear (2x, such as 'c')" in text
    for part in (
        "DequantizeLinear (1x, such as 'back')",
        "com.microsoft::FastGelu (1x",
        "If (1x",
        "NonZero (1x, such as 'e')",
    ):
        assert part in text


def function(name, nodes, opset=17):
    return helper.make_function(
        "mine", name, ["a"], ["b"], nodes, [helper.make_opsetid("", opset), helper.make_opsetid("mine", 1)]
    )


def with_functions(functions, call="Double"):
    model = model_of([helper.make_node(call, ["x"], ["y"], domain="mine")], X, ["y"])
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.functions.extend(functions)
    return model


def test_functions_are_inlined(path):
    inner = function("Double", [helper.make_node("Add", ["a", "a"], ["b"])])
    outer = function("Four", [helper.make_node("Double", ["a"], ["c"], domain="mine"),
                              helper.make_node("Double", ["c"], ["b"], domain="mine")])  # fmt: skip
    model = read_model(save(with_functions([inner, outer], "Four"), path))
    assert [node.op_type for node in model.graph] == ["Add", "Add"]


def test_functions_that_grow_without_end_are_refused(path):
    calls = [helper.make_node("F0", ["a"], ["b"], domain="mine")] * 2
    functions = [function("F0", [helper.make_node("Add", ["a", "a"], ["b"])])]
    for level in range(1, 40):
        calls = [helper.make_node(f"F{level - 1}", ["a" if i == 0 else "c"], ["c" if i == 0 else "b"], domain="mine")
                 for i in range(2)]  # fmt: skip
        functions.append(function(f"F{level}", calls))
    with pytest.raises(InputError, match="functions that call each other to more than"):
        read_model(save(with_functions(functions, "F39"), path))


def test_a_function_that_calls_itself_is_refused(path):
    loop = function("Double", [helper.make_node("Double", ["a"], ["b"], domain="mine")])
    with pytest.raises(InputError, match="'Double' calls itself"):
        read_model(save(with_functions([loop]), path))


def test_a_function_of_another_opset_is_refused(path):
    with pytest.raises(InputError, match="uses another opset than its graph"):
        read_model(save(with_functions([function("Double", [helper.make_node("Add", ["a", "a"], ["b"])], 13)]), path))


def test_nodes_in_any_order_are_sorted(path):
    nodes = [helper.make_node("Relu", ["h"], ["y"]), helper.make_node("MatMul", ["x", "w"], ["h"])]
    model = read_model(save(model_of(nodes, X, ["y"], {"w": rand(4, 3)}), path))
    assert [node.op_type for node in model.graph] == ["MatMul", "Relu"]


def test_a_packed_entry_that_is_not_true_is_refused(path):
    model = plain()
    entry = model.metadata_props.add()
    entry.key, entry.value = "sparsify.packed", '{"layout": 1, "tensors": {"nowhere": "bitmask"}}'
    with pytest.raises(InputError, match="nowhere is not in the graph"):
        read_model(save(model, path))


@pytest.fixture
def drawn(path):
    """A file whose weight is computed from a seed."""
    torch.manual_seed(0)
    program = redrawn(sp.capture(nn.Linear(64, 32), (torch.randn(2, 64),)), 7, "kaiming")
    half = {"weight": torch.arange(2048).view(32, 64) % 4 == 0}
    sp.export_onnx(frozen(program, half, 7, "kaiming"), path, storage="packed")
    sp.export_onnx(program, path.with_name("dense.onnx"))
    return path


def test_drawn_weights_are_read_as_they_are(drawn):
    assert onnx.load(drawn).functions
    found, expected = read_model(drawn), onnx.load(drawn.with_name("dense.onnx"))
    weights = {item.name: onnx.numpy_helper.to_array(item) for item in expected.graph.initializer}
    assert {name: value.const_value.numpy().tobytes() for name, value in found.graph.initializers.items()} == {
        name: value.tobytes() for name, value in weights.items()
    }
    assert not found.functions


def test_drawing_that_makes_no_weight_is_refused(drawn):
    proto = onnx.load(drawn)
    node = next(node for node in proto.graph.node if node.domain == "sparsify")
    extra = onnx.NodeProto()
    extra.CopyFrom(node)
    extra.name, extra.output[0] = "extra", "extra"
    proto.graph.node.append(extra)
    proto.graph.output.append(helper.make_tensor_value_info("extra", onnx.TensorProto.FLOAT, None))
    save(proto, drawn)
    with pytest.raises(InputError, match="draws values from a seed that no weight is made of"):
        read_model(drawn)
    entry = next(item for item in proto.metadata_props if item.key == "sparsify.drawn")
    proto.metadata_props.remove(entry)
    save(proto, drawn)
    with pytest.raises(InputError):
        read_model(drawn)


def test_the_file_is_not_changed(path):
    before = save(plain(), path).read_bytes()
    read_model(path)
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == ["model.onnx"]
    assert onnx.load(path).graph.node[0].op_type == "MatMul"
