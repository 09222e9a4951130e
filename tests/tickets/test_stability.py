"""Stability: distances by hand, the step at which masks agree, and the memory of a stopped search."""

from types import SimpleNamespace

import pytest
import torch

from sparsify.tickets.stability import Stability, hamming


def mask(text):
    return torch.tensor([letter == "1" for letter in text])


def looked(masks, *, window=3, distance=0.3, every=1):
    told, drawn = [], iter(masks)
    found = Stability(lambda module: mask(next(drawn)), every=every, window=window, distance=distance, told=told.append)
    for step in range(1, len(masks) * every + 1):
        if found.ended:
            break
        found.look(SimpleNamespace(step=step, module=None))
    return found, told


def test_the_distance_is_the_share_of_entries_that_differ():
    assert hamming(mask("1100"), mask("1010")) == 0.5
    assert hamming(mask("1100"), mask("1100")) == 0.0


def test_it_ends_when_every_two_masks_of_the_window_agree():
    # The first and the third differ in two of four, although neighbours differ in less.
    found, told = looked(["11110000", "11100001", "11000011", "11000011", "11000011", "11000011"], distance=0.3)
    assert [entry["step"] for entry in found.masks] == [1, 2, 3, 4]
    assert [entry["distances"] for entry in found.masks] == [[], [0.25], [0.5, 0.25], [0.25, 0.0]]
    assert [entry["largest"] for entry in found.masks] == [None, None, 0.5, 0.25]
    assert found.ended
    assert told == found.masks


def test_the_limit_itself_is_not_below_it():
    found, _ = looked(["1100", "1010", "1100", "1100"], window=2, distance=0.5)
    assert [entry["largest"] for entry in found.masks] == [None, 0.5, 0.5, 0.0]


def test_the_whole_window_counts():
    found, _ = looked(["10"] * 4, window=4)
    assert len(found.masks) == 4
    assert found.ended


def test_masks_are_drawn_at_its_pace():
    found, _ = looked(["10", "01", "10"], every=5)
    assert [entry["step"] for entry in found.masks] == [5, 10, 15]
    assert not found.ended


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_search_goes_on_from_its_state(cut):
    masks = ["111100001", "111000011", "110000111", "110000111", "110000111"]
    whole, _ = looked(masks)
    first, _ = looked(masks[:cut])
    rest = iter(masks[cut:])
    again = Stability(lambda module: mask(next(rest)), every=1, window=3, distance=0.3)
    again.load_state(first.state())
    for step in range(cut + 1, len(masks) + 1):
        if not again.ended:
            again.look(SimpleNamespace(step=step, module=None))
    assert again.masks == whole.masks
    assert again.ended == whole.ended
