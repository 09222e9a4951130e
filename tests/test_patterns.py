"""Patterns: what the user may write, and what stays of a weight, compared with loops over its groups and tiles."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsify.errors import UsageError
from sparsify.layout import Layout
from sparsify.patterns import Block, NofM, Unstructured, parse_pattern, pattern_of

LINEAR = Layout((0,), (1,))
CONV1D = Layout((1,), (0,))  # GPT-2's weights are [in, out]
CONV = Layout((0,), (1,), (2, 3))
GROUPED = Layout((0,), (1,), (2, 3), groups=2)
EXPERTS = Layout((2,), (1,), batch=(0,))
TRANSPOSED = Layout((1, 2, 3), (0,))
SHAPES = {
    "linear": (LINEAR, (6, 24)), "conv1d": (CONV1D, (24, 5)), "conv": (CONV, (3, 24, 2, 3)),
    "grouped": (GROUPED, (4, 12, 3, 3)), "experts": (EXPERTS, (3, 24, 5)), "transposed": (TRANSPOSED, (24, 4, 2, 2)),
}  # fmt: skip


def random(shape, seed=0, levels=None):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values if levels is None else (values * levels).round()


def test_patterns_are_written_like_this():
    assert parse_pattern("unstructured") == Unstructured()
    assert parse_pattern("2:4") == NofM(2, 4)
    assert parse_pattern("1:16") == NofM(1, 16)
    assert parse_pattern("block32") == Block(32, 32)
    assert parse_pattern("block16x64") == Block(16, 64)
    assert parse_pattern("block1x1") == Block(1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0:4", r"pattern=0:4 is impossible: it keeps N of every M"),
        ("4:4", r"pattern=4:4 is impossible: it keeps N of every M"),
        ("5:4", r"pattern=5:4 is impossible"),
        ("0:0", r"pattern=0:0"),
        ("block0", r"pattern=block0: a tile has at least one row and one column"),
        ("block4x0", r"at least one row and one column"),
    ],
)
def test_impossible_patterns_are_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse_pattern(text)


@pytest.mark.parametrize("text", ["", "nonsense", "2:", ":4", "2:4:8", "-1:4", "block", "blockx4", "block4x", "Block4",
                                  "block 4", "2.5:4", "structured"])  # fmt: skip
def test_nonsense_gets_the_choices(text):
    with pytest.raises(UsageError, match=r"There are unstructured, N:M \(2:4\) and blockBxB \(block32x32\)"):
        parse_pattern(text)


def kept_by_loops(scores, layout, n, m):
    """Keep n of every m along the inputs, one group after the other; the first ones of equal scores."""
    mask = torch.zeros(scores.shape, dtype=torch.bool)
    (inputs,) = layout.inputs
    others = [range(size) for dim, size in enumerate(scores.shape) if dim != inputs]
    for place in itertools.product(*others):
        for start in range(0, scores.shape[inputs], m):
            group = [(*place[:inputs], start + i, *place[inputs:]) for i in range(m)]
            for index in sorted(group, key=lambda at: -float(scores[at]))[:n]:  # sorted() is stable
                mask[index] = True
    return mask


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 2), (3, 4), (1, 6), (5, 6), (4, 12), (11, 12), (1, 3)])
@pytest.mark.parametrize("levels", [None, 1])
def test_n_of_m_along_the_inputs_is_what_loops_find(kind, n, m, levels):
    layout, shape = SHAPES[kind]
    scores = random(shape, levels=levels)
    assert NofM(n, m).reason(shape, layout) == ""
    mask = NofM(n, m).mask(scores, layout)
    assert mask.dtype == torch.bool
    assert torch.equal(mask, kept_by_loops(scores, layout, n, m))


@pytest.mark.parametrize(("n", "m"), [(1, 7), (7, 8), (8, 9), (1, 9), (5, 16)])
def test_few_and_many_scores_are_ranked_alike(n, m):
    scores = random((5, 3 * m), levels=2)
    assert torch.equal(NofM(n, m).mask(scores, LINEAR), kept_by_loops(scores, LINEAR, n, m))


def test_two_of_four_by_hand():
    scores = torch.tensor([[1.0, 4, 3, 2, 5, 5, 5, 5]])
    assert NofM(2, 4).mask(scores, LINEAR).tolist() == [[False, True, True, False, True, True, False, False]]


@pytest.mark.parametrize(("n", "m"), [(2, 4), (3, 9)])
def test_weights_that_are_gone_already_stay_gone(n, m):
    scores = torch.ones(1, 2 * m)
    scores[0, : m - 1] = -torch.inf  # one weight is left in the first group, all in the second
    mask = NofM(n, m).mask(scores, LINEAR)
    assert mask[0, m - 1]
    assert mask.view(2, m).sum(1).tolist() == [n, n]
    assert mask[0, m : m + n].all()


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 16)])
def test_large_tensors_in_pieces_are_the_same(n, m, monkeypatch):
    scores = random((7, 32), levels=2)
    whole = NofM(n, m).mask(scores, LINEAR)
    monkeypatch.setattr("sparsify.patterns._PIECE", 3 * m)
    assert torch.equal(NofM(n, m).mask(scores, LINEAR), whole)


def test_inputs_that_m_does_not_divide_are_a_reason():
    assert NofM(2, 4).reason((8, 10), LINEAR) == "the number of its inputs, 10, is no multiple of 4"
    assert NofM(2, 4).reason((10, 8), CONV1D) == "the number of its inputs, 10, is no multiple of 4"
    assert NofM(2, 4).reason((8, 3, 4, 4), CONV) == "the number of its inputs, 3, is no multiple of 4"
    assert NofM(2, 4).reason((8, 6, 3, 3), GROUPED) == "the number of its inputs, 6, is no multiple of 4"
    assert NofM(2, 4).reason((8, 8, 3, 3), GROUPED) == ""
    assert Block(32, 32).reason((5, 7), LINEAR) == ""
    assert Unstructured().reason((5, 7), LINEAR) == ""


def test_a_single_number_has_no_tiles():
    assert Block(32, 32).reason((), Layout((0,), ())) == "it is a single number"
    assert Unstructured().reason((), Layout((0,), ())) == ""


def tiles_by_loops(shape, layout, rows, columns):
    """Return the number of its tile for each weight: positions of the kernel, then rows, then columns."""
    out, inner = layout.outputs[0], layout.inputs[0]
    planes = [dim for dim in layout.order if dim not in (out, inner)]
    down, right = -(-shape[out] // rows), -(-shape[inner] // columns)
    numbers = torch.empty(shape, dtype=torch.int64)
    for index in itertools.product(*map(range, shape)):
        plane = 0
        for dim in planes:
            plane = plane * shape[dim] + index[dim]
        numbers[index] = (plane * down + index[out] // rows) * right + index[inner] // columns
    return numbers


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (4, 4), (5, 7), (1, 1), (100, 100)])
def test_a_tile_scores_the_mean_of_its_weights(kind, rows, columns):
    layout, shape = SHAPES[kind]
    scores, numbers = random(shape), tiles_by_loops(shape, layout, rows, columns)
    tiles = Block(rows, columns).scores(scores, layout)
    means = [scores[numbers == tile].mean() for tile in range(int(numbers.max()) + 1)]
    torch.testing.assert_close(tiles, torch.stack(means), rtol=1e-5, atol=1e-6)  # another order of summation


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (5, 7), (100, 100)])
def test_the_mask_of_tiles_is_that_of_their_weights(kind, rows, columns):
    layout, shape = SHAPES[kind]
    numbers = tiles_by_loops(shape, layout, rows, columns)
    kept = torch.rand(int(numbers.max()) + 1, generator=torch.Generator().manual_seed(0)) > 0.5
    assert torch.equal(Block(rows, columns).mask(kept, shape, layout), kept[numbers])


def test_tiles_by_hand():
    scores = torch.tensor([[1.0, 3, 10], [5, 7, 20], [2, 4, 30]])
    assert Block(2, 2).scores(scores, LINEAR).tolist() == [4.0, 15.0, 3.0, 30.0]
    mask = Block(2, 2).mask(torch.tensor([False, True, True, False]), (3, 3), LINEAR)
    assert mask.int().tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]


def test_the_tiles_of_a_convolution_are_those_of_each_position():
    scores = torch.stack([torch.full((2, 4), 1.0), torch.full((2, 4), 2.0)], -1)[..., None]  # [O, I, 2, 1]
    assert Block(2, 2).scores(scores, CONV).tolist() == [1.0, 1.0, 2.0, 2.0]
    mask = Block(2, 2).mask(torch.tensor([True, False, False, False]), scores.shape, CONV)
    assert mask[:, :2, 0, 0].all()
    assert int(mask.sum()) == 4


def test_tiles_that_are_gone_score_minus_infinity_and_weights_that_are_gone_nothing():
    scores = torch.tensor([[-torch.inf, -torch.inf, 4, -torch.inf], [-torch.inf, -torch.inf, 2, 2]])
    assert Block(2, 2).scores(scores, LINEAR).tolist() == [-torch.inf, 2.0]


def test_edges_do_not_dilute_a_tile():
    scores = torch.full((5, 5), 3.0)
    assert Block(4, 4).scores(scores, LINEAR).tolist() == [3.0, 3.0, 3.0, 3.0]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(SHAPES)), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_a_mask_of_tiles_scores_back_to_the_tiles(kind, rows, columns, seed):
    layout, shape = SHAPES[kind]
    block = Block(rows, columns)
    count = block.scores(torch.empty(shape, device="meta"), layout).numel()
    kept = torch.rand(count, generator=torch.Generator().manual_seed(seed)) > 0.5
    back = block.scores(block.mask(kept, shape, layout).float(), layout)
    torch.testing.assert_close(back, kept.float(), rtol=1e-6, atol=0)  # a mean of ones, divided by their number


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("text", ["2:4", "1:4", "1:2", "4:8", "3:8"])
def test_n_of_m_is_recognised(kind, text):
    layout, shape = SHAPES[kind]
    pattern = parse_pattern(text)
    shape = (4, 24, 3, 3) if kind == "grouped" else shape
    mask = pattern.mask(random(shape), layout)
    assert pattern_of(mask, layout) == pattern
    assert str(pattern) == text


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize(("rows", "columns"), [(1, 8), (2, 5), (3, 1), (2, 2)])
def test_tiles_are_recognised(kind, rows, columns):
    layout, shape = SHAPES[kind]
    pattern = Block(rows, columns)
    kept = random(pattern.sizes(shape, layout).shape, seed=1) > 0
    mask = pattern.mask(kept, shape, layout)
    found = pattern_of(mask, layout)
    assert isinstance(found, Block)
    assert (found.rows % rows, found.columns % columns) == (0, 0) or mask.all()  # larger where the chance made it so
    assert torch.equal(found.mask(found.scores(mask.float(), layout) > 0, shape, layout), mask)


@pytest.mark.parametrize("kind", SHAPES)
def test_single_weights_have_no_pattern(kind):
    layout, shape = SHAPES[kind]
    assert pattern_of(random(shape) > 0.3, layout) == Unstructured()
    assert pattern_of(torch.tensor([True, False, True]), Layout((0,), ())) == Unstructured()
    assert str(Unstructured()) == "unstructured"


def test_a_mask_that_keeps_everything_is_one_tile():
    assert pattern_of(torch.ones(6, 24, dtype=torch.bool), LINEAR) == Block(6, 24)


@pytest.mark.parametrize("size", [1, 3, 7, 8, 100])
def test_scores_in_pieces_are_marked_as_all_of_them(size):
    scores = random((6, 24), levels=3)
    marks = NofM(3, 8).marks(iter(scores.reshape(-1).split(size)))
    assert torch.equal(marks.view(6, 24), NofM(3, 8).mask(scores, LINEAR))
