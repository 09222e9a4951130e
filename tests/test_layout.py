import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sparsify.layout import Layout
from sparsify.patches import Window, patches

CASES = {
    "linear": (Layout((0,), (1,)), (6, 4)),
    "input first": (Layout((1,), (0,)), (4, 6)),
    "experts": (Layout((2,), (1,), batch=(0,)), (3, 4, 6)),
    "conv": (Layout((0,), (1,), (2, 3)), (6, 4, 3, 2)),
    "grouped": (Layout((0,), (1,), (2,), groups=2), (6, 4, 3)),
    "depthwise": (Layout((0,), (1,), (2,), groups=6), (6, 1, 3)),
    "transposed": (Layout((1, 2, 3), (0,)), (4, 6, 3, 2)),
    "grouped transposed": (Layout((1, 2), (0,), groups=2, grouped_inputs=True), (4, 6, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_matrices_are_restored(name):
    layout, shape = CASES[name]
    weight = torch.randn(shape)
    matrices = layout.matrices(weight)
    assert matrices.ndim == 3
    assert torch.equal(layout.restore(matrices, shape), weight)


@st.composite
def layouts(draw):
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=5))
    order = draw(st.permutations(range(len(sizes))))
    cuts = sorted(draw(st.lists(st.integers(1, len(sizes) - 1), min_size=2, max_size=2)))
    kernel = draw(st.integers(0, len(sizes) - cuts[1] - 1)) if len(sizes) - cuts[1] > 1 else 0
    batch, outputs, rest = order[: cuts[0] - 1], order[cuts[0] - 1 : cuts[1]], order[cuts[1] :]
    inputs = rest[: len(rest) - kernel]
    groups = draw(st.sampled_from([1, 2, 3])) if not batch and len(outputs) == 1 else 1
    if groups > 1:
        sizes[outputs[0]] *= groups
    layout = Layout(tuple(outputs), tuple(inputs), tuple(rest[len(inputs) :]), tuple(batch), groups)
    return layout, sizes


@given(layouts())
def test_any_layout_is_restored_and_has_the_sizes_that_it_says(case):
    layout, shape = case
    weight = torch.arange(float(math.prod(shape))).view(*shape)
    matrices = layout.matrices(weight)
    assert torch.equal(layout.restore(matrices, shape), weight)
    assert matrices.shape[0] == layout.groups * math.prod(shape[dim] for dim in layout.batch)
    assert layout.input_size(shape) == math.prod(shape[dim] for dim in layout.inputs)
    along = layout.along_inputs(weight)
    assert along.shape[-1] == layout.input_size(shape)
    assert torch.equal(layout.from_inputs(along, shape), weight)


@given(layouts())
def test_values_of_inputs_spread_over_the_weight(case):
    layout, shape = case
    weight = torch.randn(*shape)
    values = torch.randn(layout.matrices(weight).shape[::2])
    spread = layout.spread(values, shape)
    expected = layout.restore(layout.matrices(weight) * values[:, None], shape)
    torch.testing.assert_close(weight * spread, expected)


@pytest.mark.parametrize("name", CASES)
def test_spread_values_broadcast_for_all_kinds_of_layers(name):
    layout, shape = CASES[name]
    weight = torch.randn(shape)
    values = torch.randn(layout.matrices(weight).shape[::2])
    torch.testing.assert_close(layout.matrices(weight * layout.spread(values, shape)),
                               layout.matrices(weight) * values[:, None])  # fmt: skip


def test_the_matrices_of_a_grouped_convolution_are_those_of_its_groups():
    layer = nn.Conv1d(4, 6, 3, groups=2, bias=False)
    x = torch.randn(2, 4, 5)
    rows = patches(x, Window((3,), groups=2))
    found = rows @ Layout((0,), (1,), (2,), groups=2).matrices(layer.weight).mT  # [G, N x positions, O / G]
    torch.testing.assert_close(found.view(2, 2, 3, 3).permute(1, 0, 3, 2).reshape(2, 6, 3), layer(x))


def test_the_matrix_of_a_transposed_convolution_maps_a_position_to_its_patch():
    layer = nn.ConvTranspose1d(4, 6, 3, groups=2, bias=False)
    matrices = Layout((1, 2), (0,), groups=2, grouped_inputs=True).matrices(layer.weight)
    x = torch.randn(1, 4, 1)
    found = matrices @ x.view(2, 2, 1)
    torch.testing.assert_close(found.view(1, 6, 3), F.conv_transpose1d(x, layer.weight, groups=2))


def test_a_grouped_transposed_convolution_reads_the_channels_of_one_group():
    layout, shape = CASES["grouped transposed"]
    assert layout.input_size(shape) == 2
    assert CASES["conv"][0].input_size(CASES["conv"][1]) == 4


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        (Layout((0,), (1,)), (3, 5)),
        (Layout((1,), (0,)), (5, 3)),
        (Layout((0,), (1,), (2, 3), groups=2), (4, 3, 2, 2)),
        (Layout((1, 2), (0,), groups=2, grouped_inputs=True), (6, 3, 2)),
        (Layout((2,), (1,), batch=(0,)), (4, 5, 3)),
    ],
)
def test_sizes_are_those_of_the_matrices(layout, shape):
    assert layout.sizes(shape) == layout.matrices(torch.empty(shape)).shape
