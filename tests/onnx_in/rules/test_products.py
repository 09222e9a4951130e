import numpy as np
import pytest
import torch
from helpers.onnx_files import one, rand, run

from sparsify.errors import InputError

SPACE = {1: [9], 2: [9, 8], 3: [5, 6, 4]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def operators(program):
    return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    "attributes",
    [{}, {"strides": 2}, {"dilations": 2, "pads": 1}, {"group": 2, "bias": True}, {"uneven": True},
     {"auto_pad": "SAME_UPPER", "strides": 2}, {"auto_pad": "SAME_LOWER", "strides": 2}, {"auto_pad": "VALID"}],
)  # fmt: skip
def test_conv(dims, attributes, path):
    given = dict(attributes)
    bias, uneven = given.pop("bias", False), given.pop("uneven", False)
    for name, count in (("strides", dims), ("dilations", dims), ("pads", 2 * dims)):
        if name in given:
            given[name] = [given[name]] * count
    if uneven:
        given["pads"] = [0, 1, 2, 1, 0, 2][: 2 * dims]
    weight = rand(6, 4 // given.get("group", 1), *[2] * dims)
    found = one("Conv", [["batch", 4, *SPACE[dims]], weight, *[rand(6)] * bias], path, **given)
    assert found.parameters["in1"].shape == weight.shape
    assert found.dynamic_batch


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    "attributes",
    [{}, {"strides": 2, "output_padding": 1}, {"dilations": 2, "pads": 1}, {"group": 2}, {"uneven": True},
     {"auto_pad": "SAME_UPPER", "strides": 2}, {"auto_pad": "SAME_LOWER", "strides": 2}, {"output_shape": 12,
     "strides": 2}],
)  # fmt: skip
def test_conv_transpose(dims, attributes, path):
    given = dict(attributes)
    uneven = given.pop("uneven", False)
    for name, count in (("strides", dims), ("dilations", dims), ("output_padding", dims), ("pads", 2 * dims),
                        ("output_shape", dims)):  # fmt: skip
        if name in given:
            given[name] = [given[name]] * count
    if uneven:
        given["pads"] = [0, 1, 2, 1, 0, 2][: 2 * dims]
    run(
        "ConvTranspose",
        [["batch", 4, *[6] * dims], rand(4, 3, *[3] * dims), *[rand(3 * given.get("group", 1))]],
        path,
        **given,
    )


def test_four_spatial_dimensions_are_refused(path):
    with pytest.raises(InputError, match="4 spatial dimensions"):
        run("Conv", [["batch", 2, 3, 3, 3, 3], rand(2, 2, 2, 2, 2, 2)], path)


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("bias", [(), (5,)])
def test_gemm_with_a_weight_is_linear(turned, bias, path):
    weight = rand(5, 4) if turned else rand(4, 5)
    given = [["batch", 4], weight, *[rand(*bias)] * len(bias)]
    found = one("Gemm", given, path, transB=turned)
    assert operators(found) == ["aten.linear.default"]
    assert tuple(found.parameters["in1"].shape) == (5, 4)


@pytest.mark.parametrize(
    ("attributes", "shapes"),
    [({"alpha": 0.5, "beta": 2.0}, ((3, 4), (4, 5), (5,))), ({"transA": 1}, ((4, 3), (4, 5), (5,))),
     ({"transA": 1, "transB": 1}, ((4, 3), (5, 4), (1, 5))), ({}, ((3, 4), (4, 5), (3, 1))), ({}, ((3, 4), (4,
     5), ()))],
)  # fmt: skip
def test_any_other_gemm(attributes, shapes, path):
    a, b, c = shapes
    run("Gemm", [list(a), rand(*b), np.asarray(rand(*c))], path, **attributes)


@pytest.mark.parametrize(
    "shapes", [([3, 4], (4, 5)), (["batch", 2, 4], (4, 5)), (["batch", 2, 4], (2, 4, 5)), ([4], (4, 5))]
)
def test_matmul(shapes, path):
    found = one("MatMul", [shapes[0], rand(*shapes[1])], path)
    assert ("aten.linear.default" in operators(found)) == (len(shapes[1]) == 2)


def test_two_computed_operands(path):
    run("MatMul", [["batch", 2, 3, 4], ["batch", 2, 4, 5]], path)


@pytest.mark.parametrize("equation", ["bij,jk->bik", "bij, jk -> ikb", "bij,jk"])
def test_einsum(equation, path):
    found = one("Einsum", [["batch", 3, 4], rand(4, 5)], path, equation=equation)
    assert len(found.parameters) == 1
    assert torch.isfinite(found.module()(torch.ones(2, 3, 4))).all()
