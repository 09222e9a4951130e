"""Masks of weights: units that a pattern makes, taken from all weights together or from each apart."""

import pytest
import torch

from sparsify.layout import Layout
from sparsify.patterns import Block, NofM, Unstructured
from sparsify.pruning.ranking import Scored
from sparsify.pruning.weight_masks import Shaper

LINEAR, CONV = Layout((0,), (1,)), Layout((0,), (1,), (2, 3))
A = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]])
B = torch.tensor([[0.5, 9.0], [4.5, 6.5]])


def shaper(pattern, **weights):
    layouts = {name: CONV if value.ndim == 4 else LINEAR for name, value in weights.items()}
    return Shaper(pattern, {name: value.shape for name, value in weights.items()}, layouts)


def scored(**weights):
    """Scores in pieces of three."""
    return [
        Scored(name, value.numel(), lambda value=value: iter(value.reshape(-1).split(3)))
        for name, value in weights.items()
    ]


def test_together_the_lowest_of_all_go():
    masks = shaper(Unstructured(), a=A, b=B).together(scored(a=A, b=B), 5)
    assert masks["a"].int().tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]
    assert masks["b"].int().tolist() == [[0, 1], [1, 1]]


def test_apart_each_loses_its_own_lowest():
    masks = shaper(Unstructured(), a=A, b=B).apart(scored(a=A, b=B), {"a": 3, "b": 1})
    assert masks["a"].int().tolist() == [[0, 0, 0, 1], [1, 1, 1, 1]]
    assert masks["b"].int().tolist() == [[0, 1], [1, 1]]


def test_apart_with_n_of_m_needs_no_counts():
    masks = shaper(NofM(1, 2), a=A, b=B).apart(scored(a=A, b=B), {})
    assert masks["a"].int().tolist() == [[0, 1, 0, 1], [0, 1, 0, 1]]
    assert masks["b"].int().tolist() == [[0, 1], [0, 1]]


def test_tiles_go_as_a_whole():
    # tiles of a: 3.5 and 5.5, of b: 5.125
    made = shaper(Block(2, 2), a=A, b=B)
    masks = made.together(scored(a=A, b=B), 8)
    assert masks["a"].int().tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
    assert not masks["b"].any()
    masks = made.apart(scored(a=A, b=B), {"a": 4, "b": 0})
    assert masks["a"].int().tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
    assert masks["b"].all()


@pytest.mark.parametrize("count", range(26))
def test_tiles_of_any_size_make_up_the_weights_as_nearly_as_they_can(count):
    # a 5x5 matrix in tiles of 2x2: 4, 4, 2 weights in two rows of tiles, 2, 2, 1 in the last
    values = torch.arange(9.0).view(3, 3)
    scores = values.repeat_interleave(2, 0).repeat_interleave(2, 1)[:5, :5]
    mask = shaper(Block(2, 2), a=scores).together(scored(a=scores), count)["a"]
    reachable = [0, 4, 8, 10, 14, 18, 20, 22, 24, 25]
    assert int((~mask).sum()) == min(reachable, key=lambda value: (abs(value - count), value))


def test_of_equal_tiles_the_later_ones_go():
    same = torch.ones(2, 6)
    mask = shaper(Block(2, 2), a=same).together(scored(a=same), 4)["a"]
    assert mask.int().tolist() == [[1, 1, 1, 1, 0, 0]] * 2


def test_what_is_gone_goes_first():
    gone = A.clone()
    gone[1, 3] = -torch.inf
    masks = shaper(Unstructured(), a=A).apart(scored(a=gone), {"a": 2})
    assert masks["a"].int().tolist() == [[0, 1, 1, 1], [1, 1, 1, 0]]


@pytest.mark.parametrize("pattern", [Unstructured(), NofM(2, 4), Block(2, 3)])
def test_masks_have_the_shape_of_their_weight(pattern):
    weights = {"a": torch.randn(6, 8), "b": torch.randn(4, 8, 3, 3)}
    made = shaper(pattern, **weights)
    masks = made.apart(scored(**weights), {name: made.size(name) // 2 for name in weights})
    for name, mask in masks.items():
        assert mask.shape == weights[name].shape
        assert mask.dtype == torch.bool
        assert 0.3 < mask.float().mean() < 0.7
