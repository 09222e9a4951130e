"""Parameters that a graph makes of others."""

import pytest
import torch
from torch import nn

import sparsify as sp
from sparsify.embedding import Embedding, embedded, embedded_names, folded
from sparsify.errors import PassError
from sparsify.kernels.seeded import seeded
from sparsify.masking import masked
from sparsify.verify import outputs


def shared_basis(coefficients, basis):
    return (coefficients @ basis).view(*coefficients.shape[:2], 3, 3)


@pytest.fixture
def program():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 10))
    return sp.capture(model, (torch.randn(2, 3, 8, 8),))


@pytest.fixture
def on_a_basis(program):
    state = {"basis": torch.randn(9, 9), "0.c": torch.randn(8, 3, 9), "2.c": torch.randn(8, 8, 9)}
    made = {f"{number}.weight": Embedding(shared_basis, (f"{number}.c", "basis")) for number in (0, 2)}
    return embedded(program, made, trainable=state)


def test_what_embeddings_read_takes_the_place_of_the_parameter(program, on_a_basis):
    assert list(on_a_basis.parameters) == ["0.bias", "2.bias", "4.weight", "4.bias", "basis", "0.c", "2.c"]
    assert embedded_names(on_a_basis) == ("0.weight", "2.weight")
    weight = shared_basis(on_a_basis.parameters["0.c"], on_a_basis.parameters["basis"])
    x = program.example.args[0]
    module = on_a_basis.module()
    expected = program.module()
    with torch.no_grad():
        expected.get_parameter("0.weight").copy_(weight)
        expected.get_parameter("2.weight").copy_(
            shared_basis(on_a_basis.parameters["2.c"], on_a_basis.parameters["basis"])
        )
    assert torch.equal(module(x), expected(x))


def test_gradients_reach_what_is_shared(program, on_a_basis):
    module = on_a_basis.module(training=True)
    module(program.example.args[0]).sum().backward()
    assert all(bool(parameter.grad.any()) for parameter in module.parameters())


def test_folded_is_the_same_function_with_parameters_of_their_own_names(program, on_a_basis):
    plain = folded(on_a_basis)
    assert sorted(plain.parameters) == sorted(program.parameters)
    assert plain.parameters["0.weight"].requires_grad
    assert torch.equal(outputs(plain)[0], outputs(on_a_basis)[0])
    assert folded(program) is program


def test_a_parameter_can_be_part_of_its_own_embedding(program):
    def shifted(weight, seed):
        return weight + seeded(seed, 3, [10, 128], "sign", 0.5)

    after = embedded(program, {"4.weight": Embedding(shifted, ("4.weight", "seed"))}, fixed={"seed": torch.tensor(7)})
    expected = program.parameters["4.weight"] + seeded(torch.tensor(7), 3, [10, 128], "sign", 0.5)
    assert torch.equal(folded(after).parameters["4.weight"], expected)
    assert "seed" not in folded(after).buffers


def test_saved_and_loaded_it_is_embedded_still(on_a_basis, tmp_path):
    sp.save(on_a_basis, tmp_path / "small.pt2")
    again = sp.load(tmp_path / "small.pt2")
    assert embedded_names(again) == ("0.weight", "2.weight")
    assert torch.equal(outputs(again)[0], outputs(on_a_basis)[0])


def test_exported_it_is_written_out(on_a_basis, tmp_path):
    import onnx

    sp.export_onnx(on_a_basis, tmp_path / "small.onnx")
    assert {node.op_type for node in onnx.load(tmp_path / "small.onnx").graph.node} <= {
        "Conv", "Relu", "Flatten", "Reshape", "Gemm",
    }  # fmt: skip


def test_a_function_with_gradients_of_its_own_is_called_as_it_is(program):
    class Through(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            return value.sign()

        @staticmethod
        def backward(ctx, upstream):
            return upstream

    after = embedded(program, {"4.weight": Embedding(Through.apply, ("4.weight",), traced=False)})
    module = after.module(training=True)
    module(program.example.args[0]).sum().backward()
    assert bool(module.get_parameter("4.weight").grad.any())
    assert torch.equal(folded(after).parameters["4.weight"], program.parameters["4.weight"].sign())


def test_wrong_shapes_and_masked_weights_are_refused(program, on_a_basis):
    with pytest.raises(PassError, match=r"makes torch.float32\[128, 10\], and it is torch.float32\[10, 128\]"):
        embedded(program, {"4.weight": Embedding(torch.t, ("4.weight",))})
    hidden = masked(program, {"4.weight": torch.ones(10, 128, dtype=torch.bool)})
    with pytest.raises(PassError, match=r"4\.weight is masked or embedded already"):
        embedded(hidden, {"4.weight": Embedding(torch.neg, ("4.weight",))})
    with pytest.raises(PassError, match=r"0\.weight is masked or embedded already"):
        embedded(on_a_basis, {"0.weight": Embedding(torch.neg, ("0.c",))})
