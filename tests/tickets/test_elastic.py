"""Elastic tickets: stages by the shapes of their blocks, copies and drops in the right order, and no other families."""

import pytest

from sparsify.errors import PassError
from sparsify.tickets.elastic import matched


def resnet(*depths, classes=10, flat=False):
    """Return the shapes of a residual network with stages of so many blocks, each twice as wide as the one before."""
    shapes, inputs, number = {"conv.weight": (4, 1, 3, 3)}, 4, 0
    for stage, depth in enumerate(depths):
        width = 4 * 2**stage
        for block in range(depth):
            name = f"blocks.{number}" if flat else f"layer{stage}.{block}"
            shapes[f"{name}.conv1.weight"] = (width, inputs, 3, 3)
            shapes[f"{name}.conv2.weight"] = (width, width, 3, 3)
            inputs, number = width, number + 1
    return shapes | {"fc.weight": (classes, inputs), "fc.bias": (classes,)}


def blocks(pairs, prefix):
    """Return by block of the network that of the ticket."""
    chosen = {name: other for name, other in pairs.items() if name.startswith(prefix) and name.endswith("conv1.weight")}
    return {name.split(".")[1]: other.split(".")[1] for name, other in chosen.items()}


@pytest.mark.parametrize(
    ("stretch", "deeper", "shallower"),
    [
        # Layer 1 begins with a block of its own kind, which stays the first; the rest is a stage of two.
        ("append", "0 1 2 1 2 1", "0 1"),
        ("interpolate", "0 1 1 1 2 2", "0 1"),
    ],
)
def test_blocks_are_copied_and_dropped(stretch, deeper, shallower):
    pairs = matched(resnet(3, 3), resnet(3, 6), stretch)
    assert blocks(pairs, "layer0") == {"0": "0", "1": "1", "2": "2"}
    assert list(blocks(pairs, "layer1").values()) == deeper.split()
    assert pairs.keys() == resnet(3, 6).keys()
    assert pairs["layer1.3.conv2.weight"] == f"layer1.{deeper.split()[3]}.conv2.weight"
    assert pairs["fc.weight"] == "fc.weight"
    pairs = matched(resnet(3, 3), resnet(3, 2), stretch)
    assert list(blocks(pairs, "layer1").values()) == shallower.split()


def test_a_stage_of_equal_blocks_is_stretched_from_its_first():
    assert list(blocks(matched(resnet(2), resnet(5), "append"), "layer0").values()) == ["0", "1", "0", "1", "0"]
    assert list(blocks(matched(resnet(2), resnet(5), "interpolate"), "layer0").values()) == ["0", "0", "0", "1", "1"]
    assert list(blocks(matched(resnet(4), resnet(2), "append"), "layer0").values()) == ["0", "1"]
    assert list(blocks(matched(resnet(4), resnet(2), "interpolate"), "layer0").values()) == ["0", "2"]


def test_stages_in_one_list_are_found_by_their_shapes():
    pairs = matched(resnet(2, 3, flat=True), resnet(3, 4, flat=True), "append")
    assert list(blocks(pairs, "blocks").values()) == ["0", "1", "0", "2", "3", "4", "3"]


def test_more_than_nine_blocks_are_in_the_order_of_their_numbers():
    pairs = matched(resnet(2), resnet(12), "interpolate")
    found = blocks(pairs, "layer0")
    assert [found[str(number)] for number in range(12)] == ["0"] * 6 + ["1"] * 6


def test_stages_in_stages():
    def nested(*depths):
        return {name.replace("layer", "stages."): shape for name, shape in resnet(*depths).items()}

    pairs = matched(nested(2, 3), nested(2, 4), "append")
    assert pairs["stages.1.3.conv1.weight"] == "stages.1.1.conv1.weight"
    assert pairs["stages.0.1.conv1.weight"] == "stages.0.1.conv1.weight"


def test_without_stretching_names_and_shapes_decide():
    assert matched(resnet(2), resnet(3), "no").keys() == resnet(2).keys()
    pairs = matched(resnet(2), resnet(2, classes=5), "no")
    assert resnet(2).keys() - pairs.keys() == {"fc.weight", "fc.bias"}
    assert all(name == other for name, other in pairs.items())


@pytest.mark.parametrize("stretch", ["append", "interpolate"])
@pytest.mark.parametrize("flat", [False, True])
def test_one_block_of_each_stage_is_left_and_nothing_is_copied_to_where_there_is_none(stretch, flat):
    pairs = matched(resnet(2, 2, 2, flat=flat), resnet(1, 1, 1, flat=flat), stretch)
    firsts = (0, 2, 4) if flat else (0, 0, 0)
    for stage, first in enumerate(firsts):
        here, there = (f"blocks.{stage}", f"blocks.{first}") if flat else (f"layer{stage}.0", f"layer{stage}.0")
        assert pairs[f"{here}.conv2.weight"] == f"{there}.conv2.weight"
    assert pairs.keys() == resnet(1, 1, 1, flat=flat).keys()
    with pytest.raises(PassError, match="nothing to copy"):
        matched(resnet(1, 1, 1, flat=flat), resnet(2, 2, 2, flat=flat), stretch)


def test_a_stage_that_goes_as_a_whole_is_another_family():
    with pytest.raises(PassError, match="other stages"):
        matched(resnet(2, 2, 2, flat=True), resnet(2, 2, flat=True), "append")


def test_another_family_is_refused():
    with pytest.raises(
        PassError, match=r"the modules of blocks have other stages \(2 \+ 1 \+ 3 \+ 1 \+ 1\) than those"
    ):
        matched(resnet(2, 3, flat=True), resnet(2, 4, 2, flat=True), "append")
    wide = {name.replace("layer0", "layer1"): shape for name, shape in resnet(4).items()}
    with pytest.raises(
        PassError, match=r"modules of layer1 have other stages \(4\) than those of the ticket \(1 \+ 2\)"
    ):
        matched(resnet(3, 3), wide, "interpolate")
