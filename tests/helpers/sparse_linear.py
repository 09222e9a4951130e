"""What every linear layer with a sparse weight must do; a test file names the operator and its format."""

import itertools

import pytest
import torch
from helpers.marks import some
from helpers.matrices import kept_only, mask_of
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F

from sparsify.kernels import _on_cpu

ACTIVATIONS = {"none": lambda z: z, "relu": torch.relu, "gelu": F.gelu, "silu": F.silu}
NEEDED = list(itertools.product([False, True], repeat=3))  # gradients of the input, the values and the bias
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3, torch.float64: 1e-12}


def assert_close(found, expected):
    scale = float(expected.detach().abs().max()) if expected.numel() else 0.0
    assert found.shape == expected.shape
    assert torch.allclose(found.double(), expected.double(), rtol=0, atol=TOLERANCE[found.dtype] * max(1.0, scale))


class Layer(torch.nn.Module):
    """A layer that owns a sparse weight."""

    def __init__(self, operator, stored, bias):
        super().__init__()
        values, *others = stored
        self.operator, self.count = operator, len(others)
        self.values, self.bias = torch.nn.Parameter(values), torch.nn.Parameter(bias)
        for number, value in enumerate(others):
            self.register_buffer(f"other{number}", value)

    def forward(self, x):
        others = [getattr(self, f"other{number}") for number in range(self.count)]
        return self.operator(x, self.values, *others, self.bias, "relu")


class SparseLinear:
    """Tests of an operator `operator(x, values, *others, bias, activation)`.

    A subclass gives `operator` and `stored(weight, mask)`: the tensors of its format, values first; and, where these
    are not what the mask keeps row by row, `taken(matrix, mask)`.
    """

    def mask(self, shape, density):
        return mask_of(shape, density)

    def taken(self, matrix, mask):
        return matrix[mask]

    def given(self, batch, shape, density=0.2, dtype=torch.float32, leading=()):
        generator = torch.Generator().manual_seed(0)
        weight, mask = torch.randn(shape, generator=generator), self.mask(shape, density)
        x = torch.randn(*leading, batch, shape[1], generator=generator)
        bias = torch.randn(shape[0], generator=generator)
        x, weight, bias = (value.to(dtype) for value in (x, kept_only(weight, mask), bias))
        return x, weight, bias, self.stored(weight, mask), mask

    @pytest.mark.parametrize("shape", some([(1, 1), (70, 33)], [(1, 1), (5, 13), (70, 33), (128, 64), (3, 300)]))
    @pytest.mark.parametrize("batch", some([0, 3, 17], [0, 1, 3, 8, 9, 16, 17, 32, 33, 100]))
    def test_it_is_the_dense_layer(self, batch, shape):
        for density in (0.0, 0.05, 0.5, 1.0):
            x, weight, bias, stored, _ = self.given(batch, shape, density)
            assert_close(self.operator(x, *stored, bias), F.linear(x.double(), weight.double(), bias.double()))
            assert_close(self.operator(x, *stored), F.linear(x.double(), weight.double()))

    @pytest.mark.parametrize("dtype", TOLERANCE)
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_activations_in_every_type(self, activation, dtype):
        x, weight, bias, stored, _ = self.given(5, (24, 40), dtype=dtype, leading=(2, 3))
        found = self.operator(x, *stored, bias, activation)
        assert found.dtype == dtype
        assert_close(found, ACTIVATIONS[activation](F.linear(x.double(), weight.double(), bias.double())))

    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_gradients(self, activation):
        x, weight, bias, (values, *others), mask = self.given(6, (12, 20), 0.4)
        upstream = torch.randn(6, 12, generator=torch.Generator().manual_seed(3))
        leaves = [leaf.clone().requires_grad_() for leaf in (x, values, bias)]
        self.operator(leaves[0], leaves[1], *others, leaves[2], activation).backward(upstream)
        dense = [leaf.double().requires_grad_() for leaf in (x, weight, bias)]
        ACTIVATIONS[activation](F.linear(*dense)).backward(upstream.double())
        expected = (dense[0].grad, self.taken(dense[1].grad, mask), dense[2].grad)
        for leaf, gradient in zip(leaves, expected, strict=True):
            assert_close(leaf.grad, gradient)

    @pytest.mark.parametrize("needed", some([(True, False, False), (True, True, True)], NEEDED))
    def test_only_gradients_that_are_needed(self, needed):
        x, _, bias, (values, *others), _ = self.given(4, (6, 8))
        leaves = [leaf.clone().requires_grad_(need) for leaf, need in zip((x, values, bias), needed, strict=True)]
        out = self.operator(leaves[0], leaves[1], *others, leaves[2], "silu")
        assert out.requires_grad == any(needed)
        if any(needed):
            out.sum().backward()
        assert [leaf.grad is not None for leaf in leaves] == list(needed)

    def test_arguments_that_are_left_out(self):
        x, weight, _, (values, *others), mask = self.given(4, (6, 8), 0.5)
        leaves = [leaf.clone().requires_grad_() for leaf in (x, values)]
        self.operator(*leaves, *others).square().sum().backward()
        dense = [leaf.double().requires_grad_() for leaf in (x, weight)]
        F.linear(*dense).square().sum().backward()
        assert_close(leaves[0].grad, dense[0].grad)
        assert_close(leaves[1].grad, self.taken(dense[1].grad, mask))

    @pytest.mark.parametrize("biased", [True, False])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_torch_accepts_it(self, dtype, biased):
        x, _, bias, (values, *others), _ = self.given(4, (6, 8), dtype=dtype)
        last = bias.requires_grad_() if biased else None
        torch.library.opcheck(self.operator, (x.requires_grad_(), values.requires_grad_(), *others, last, "gelu"))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_weights_that_an_optimizer_changes_are_the_weights(self, dtype):
        """Also where it writes through `.data`, which no tensor tells."""
        x, _, bias, stored, _ = self.given(4, (12, 20), 0.4, dtype)
        layer = Layer(self.operator, stored, bias)
        for change in (lambda: layer.values.data.mul_(2), layer.values.data.zero_):
            layer(x).sum().backward()
            change()
            others = [getattr(layer, f"other{number}") for number in range(layer.count)]
            fresh = self.operator(x, layer.values.detach().clone(), *others, bias, "relu")
            assert torch.allclose(layer(x), fresh, atol=1e-5)  # behind a backward another kernel may compute it, once
            assert torch.equal(layer(x), fresh)

    def test_it_is_exported_with_any_batch(self):
        x, _, bias, stored, _ = self.given(4, (6, 8))
        layer = Layer(self.operator, stored, bias)
        program = torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        longer = torch.randn(11, 8)
        assert torch.equal(program.module()(longer), layer(longer))

    def test_it_is_compiled_and_trains(self):
        x, _, bias, stored, _ = self.given(4, (6, 8))
        plain, other = Layer(self.operator, stored, bias), Layer(self.operator, stored, bias.clone())
        other.values = torch.nn.Parameter(stored[0].clone())
        for call in (plain, torch.compile(other, backend="aot_eager", fullgraph=True)):
            call(x).square().sum().backward()
        assert_close(other.values.grad, plain.values.grad)
        assert_close(other.bias.grad, plain.bias.grad)

    def test_views_of_other_tensors(self):
        x, weight, bias, stored, _ = self.given(8, (6, 8))
        wide = torch.randn(8, 16)
        wide[:, ::2] = x
        found = self.operator(wide[:, ::2], *stored, bias)
        assert_close(found, F.linear(x.double(), weight.double(), bias.double()))
        assert_close(self.operator(x.t().contiguous().t(), *stored, bias), found)

    def test_without_numba_it_is_the_same_layer(self, monkeypatch):
        x, _, bias, stored, _ = self.given(7, (30, 21))
        with_it = self.operator(x, *stored, bias)
        monkeypatch.setattr(_on_cpu, "_NUMBA", False)
        assert_close(self.operator(x, *stored, bias), with_it)

    def test_an_unknown_activation(self):
        x, _, bias, stored, _ = self.given(2, (3, 4))
        with pytest.raises(ValueError, match="activation='tanh' is none of none, relu, gelu, silu"):
            self.operator(x, *stored, bias, "tanh")

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("size", [7, 9, 16])
    def test_x_of_another_length(self, size, dtype):
        _, _, _, stored, _ = self.given(2, (3, 8), dtype=dtype)
        x = torch.randn(2, size, dtype=dtype)
        with pytest.raises(ValueError, match=rf"x must be \[..., 8\], as long as .*, not \[2, {size}\]"):
            self.operator(x, *stored, inputs=8)
        with FakeTensorMode(allow_non_fake_inputs=True) as mode, pytest.raises(ValueError, match="x must be"):
            self.operator(mode.from_tensor(x), *stored, inputs=8)
        with pytest.raises(ValueError, match=r"x must be \[..., K\]"):
            self.operator(torch.tensor(1.0, dtype=dtype), *stored)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("length", [1, 4])
    def test_a_bias_of_another_length(self, length, dtype):
        x, _, bias, stored, _ = self.given(2, (3, 8), dtype=dtype)
        with pytest.raises(ValueError, match=r"the bias must be torch\..*\[3\]"):
            self.operator(x, *stored, bias.new_ones(length))

    @pytest.mark.parametrize("inside", [True, False])
    def test_under_autocast_it_computes_in_the_type_of_its_values(self, inside):
        x, weight, bias, (values, *others), mask = self.given(6, (12, 20), 0.4)
        leaves = [leaf.clone().requires_grad_() for leaf in (x.bfloat16(), values, bias)]
        with torch.autocast("cpu", torch.bfloat16):
            out = self.operator(leaves[0], leaves[1], *others, leaves[2], "gelu")
            if inside:
                out.sum().backward()
        if not inside:
            out.sum().backward()
        dense = [leaf.double().requires_grad_() for leaf in (x.bfloat16(), weight, bias)]
        expected = F.gelu(F.linear(*dense))
        expected.sum().backward()
        assert out.dtype == torch.float32
        assert_close(out, expected)
        assert_close(leaves[0].grad, dense[0].grad)
        assert_close(leaves[1].grad, self.taken(dense[1].grad, mask))

    @pytest.mark.parametrize("batch", [1, 4, 20])
    def test_values_that_get_the_memory_of_earlier_ones(self, batch):
        """Memory that is free again goes to the next that asks, and assigning to `.data` counts nothing."""
        x, _, bias, (values, *others), _ = self.given(batch, (40, 64))
        held = torch.nn.Parameter(values.clone())
        for factor in range(30):
            self.operator(x, held, *others, bias)
            held.data = torch.empty(0)
            held.data = values * factor
            expected = self.operator(x, values * factor, *others, bias)
            assert_close(self.operator(x, held, *others, bias), expected)
