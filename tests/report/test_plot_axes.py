"""Axes: ticks with room for their numbers, and legends where no line is."""

import dataclasses
import functools

import pytest
from helpers.histories import entry, lottery, panels


@pytest.fixture
def drawn(tmp_path):
    return functools.partial(panels, tmp_path)


@pytest.mark.parametrize(("rounds", "told"), [(14, 14), (60, 30)])
def test_every_density_has_a_tick_where_there_is_room(drawn, rounds, told):
    found = lottery("a")
    entries = [entry(number, 0.9, 0.8**number) for number in range(rounds + 1)]
    axis = drawn(dataclasses.replace(found, rounds=entries, controls=[]))["Score by what is left"]
    ticks = axis.get_xticks().tolist()
    assert len(ticks) == told if told == rounds else len(ticks) < told
    assert ticks[:2] == [80.0, 64.0] or told != rounds


def test_legends_lie_beside_the_axes(drawn):
    for axis in drawn(lottery("a")).values():
        axis.figure.draw_without_rendering()
        assert axis.get_legend().get_window_extent().x0 >= axis.get_window_extent().x1
