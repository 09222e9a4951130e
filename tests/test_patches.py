import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from sparsify.layout import Layout
from sparsify.patches import Window, patches

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def agrees(x, weight, **options):
    """Patches times the weight's matrices are the convolution."""
    n = weight.ndim - 2
    groups = options.get("groups", 1)
    expected = CONVOLUTIONS[n](x, weight, **options)
    rows = patches(x, Window(tuple(weight.shape[2:]), **options))
    matrices = Layout((0,), (1,), tuple(range(2, 2 + n)), groups=groups).matrices(weight)
    found = rows @ matrices.mT
    batched = expected if expected.ndim == n + 2 else expected[None]
    batch, outputs, *positions = batched.shape
    found = found.view(groups, batch, *positions, outputs // groups).movedim(-1, 1).movedim(2, 0)
    torch.testing.assert_close(found.reshape(batched.shape), batched)


several = st.lists(st.integers(1, 3), min_size=3, max_size=3)


@given(
    n=st.integers(1, 3), kernel=several, moves=st.tuples(several, several, several), groups=st.sampled_from([1, 2, 4])
)
def test_patches_times_weights_are_the_convolution(n, kernel, moves, groups):
    stride, padding, dilation = (values[:n] for values in moves)
    x = torch.randn(2, 4, 7, 8, 9, dtype=torch.float64)[(slice(None),) * (n + 2) + (0,) * (3 - n)]
    weight = torch.randn(8, 4 // groups, *kernel[:n], dtype=torch.float64)
    agrees(x, weight, stride=stride, padding=[amount - 1 for amount in padding], dilation=dilation, groups=groups)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2])
def test_padding_by_name(padding, size, dilation):
    agrees(torch.randn(2, 3, 9), torch.randn(5, 3, size), padding=padding, dilation=dilation)
    agrees(torch.randn(2, 3, 9, 8), torch.randn(5, 3, size, 2), padding=padding, dilation=dilation)


def test_one_number_holds_for_all_dimensions():
    agrees(torch.randn(2, 3, 9, 8), torch.randn(5, 3, 3, 2), stride=2, padding=1, dilation=2)
    agrees(torch.randn(2, 3, 9, 8), torch.randn(5, 3, 3, 2), stride=[2], padding=[1], dilation=[2])


def test_an_image_without_a_batch():
    agrees(torch.randn(3, 9, 8), torch.randn(5, 3, 3, 2))


def test_a_row_runs_over_channels_and_fastest_over_the_kernel():
    x = torch.arange(12.0).view(1, 2, 6)
    assert patches(x, Window((2,), stride=4)).tolist() == [[[0, 1, 6, 7], [4, 5, 10, 11]]]
