"""What the passes that lower have in common."""

import pytest
from helpers.lowered import LOWERINGS, mixed

import sparsify as sp
from sparsify.errors import PassError


def test_what_only_and_protect_leave():
    pruned = sp.run(mixed(), [LOWERINGS["lower-index"]]).program
    for options in ("only=first", "protect=point,second,turned,added,wide,stride"):
        assert list(sp.run(pruned, [f"lower-index:{options}"]).report["passes"][0]["lowered"]) == ["first.weight"]
    with pytest.raises(PassError, match="protect=firs matches no parameter"):
        sp.run(pruned, ["lower-index:protect=firs"])


def test_without_masks_there_is_nothing_to_lower():
    with pytest.raises(PassError, match="no weight has a mask"):
        sp.run(mixed(), ["lower-index"])


def test_what_is_lowered_already():
    found = sp.run(mixed(), ["weight-prune:sparsity=0.5,only=first", "lower-index"]).program
    with pytest.raises(PassError, match="lowered already"):
        sp.run(found, ["lower-index"])


def test_a_report_says_how_many_layers_and_bytes():
    record = sp.run(mixed(), [LOWERINGS["lower-index"], "lower-index"]).report["passes"][1]
    assert record["done"].startswith("5 layers, ")
    before, after = (
        sum(int(item["bytes"].split(" -> ")[side]) for item in record["lowered"].values()) for side in (0, 1)
    )
    assert f"{before:,} -> {after:,} bytes (2 left: " in record["done"]
    assert "wide.weight, it is a convolution larger than 1x1, which stays dense" in record["done"]
