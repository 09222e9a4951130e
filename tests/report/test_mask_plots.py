"""Panels of sparse training: what moved, what was used, and how dense layers are."""

import dataclasses
import functools

import pytest
from helpers.histories import labels, lines, panels, sparse


@pytest.fixture
def drawn(tmp_path):
    return functools.partial(panels, tmp_path)


def test_how_masks_change_and_how_dense_layers_are(drawn):
    axes = drawn(sparse("one", "dst:method=set"), sparse("two", "dst:method=rigl"))
    assert list(axes) == ["Learning curves", "How the masks change", "Density by layer, one"]
    first, _, _, used = axes["How the masks change"].get_lines()
    assert first.get_xydata().tolist() == [[1, 0.09], [2, 0.08], [3, 0.07]]
    assert used.get_xydata().tolist()[-1] == [3, pytest.approx(0.3)]
    assert labels(axes["How the masks change"]) == ["one", "two"]
    curves = axes["Learning curves"].get_lines()
    assert [line.get_color() for line in curves] == [first.get_color(), used.get_color()]  # one run has one colour
    assert lines(axes["Density by layer, one"])["a"][0] == [1, pytest.approx(0.11)]
    assert axes["Learning curves"].get_ylabel() == "training loss"
    assert set(lines(axes["Learning curves"])) == {"one", "two"}


def test_one_update_is_seen(drawn):
    item = sparse("one", "dst:steps=20it")
    item = dataclasses.replace(item, exchanged={"dst": item.exchanged["dst"][:1]})
    axes = drawn(item)
    for title in ("How the masks change", "Density by layer"):
        assert all(line.get_marker() not in ("None", "") for line in axes[title].get_lines())
    moved, used = axes["How the masks change"].get_lines()
    assert moved.get_marker() != used.get_marker()
    assert labels(axes["How the masks change"]) == ["moved by an update", "used so far (ITOP)"]
    assert labels(axes["Learning curves"]) == ["dst:rigl"]


@pytest.mark.parametrize("count", [10, 30])
def test_many_layers_are_shades_with_a_bar_beside(drawn, count):
    item = sparse("one", "dst")
    layers = {f"layer{index}.weight": 0.1 for index in range(count)}
    points = [{**point, "layers": layers} for point in item.exchanged["dst"]]
    axes = drawn(dataclasses.replace(item, exchanged={"dst": points}))
    axis = axes["Density by layer"]
    assert len({line.get_color() for line in axis.get_lines()}) == count
    if count == 10:
        assert labels(axis)[0] == "layer0"
    else:
        bar = axes[""]
        names = [text.get_text() for text in bar.get_yticklabels()]
        assert (axis.get_legend(), names[0], names[-1]) == (None, "layer0", "layer29")
