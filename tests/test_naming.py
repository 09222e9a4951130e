from hypothesis import given
from hypothesis import strategies as st

from sparsify.naming import common_module, distinct_names, first_are, first_names, module_of, plural, repeated_module

NAMES = st.lists(st.sampled_from(["a", "b", "0", "1"]), min_size=1, max_size=4).map(".".join)


def test_common_module():
    assert common_module(["h.0.fc.weight", "h.0.proj.weight"]) == "h.0"
    assert common_module(["h.0.fc.weight", "h.0.fc.bias"]) == "h.0.fc"
    assert common_module(["h.0.fc.weight", "k.weight"]) == ""
    assert common_module(["weight"]) == ""
    assert common_module([]) == ""


def test_several_names_are_and_one_is():
    assert first_are(["a"]) == "a is"
    assert first_are(["a", "b"]) == "a, b are"
    assert first_are(["a", "b", "c", "d"]) == "a, b, c and 1 more are"


def test_repeated_module():
    assert repeated_module(["layers.3.fc.weight"]) == "layers.3"
    assert repeated_module(["stages.1.blocks.2.conv.weight", "stages.1.blocks.2.norm.weight"]) == "stages.1.blocks.2"
    assert repeated_module(["head.weight"]) == ""


def test_parts_are_called_by_their_module():
    assert distinct_names([["layer1.0.conv.weight"], ["layer1.1.conv.weight"]], ["", ""]) == [
        "layer1.0.conv",
        "layer1.1.conv",
    ]


def test_where_the_module_says_too_little_the_children_are_added():
    parts = [["h.0.fc.weight", "h.0.proj.weight"], ["h.0.attn.weight"]]
    assert distinct_names(parts, ["x", "y"]) == ["h.0.fc+proj", "h.0.attn"]


def test_parts_without_weights_get_their_fallback_and_a_number():
    assert distinct_names([[], [], ["a.weight"]], ["relu", "relu", "x"]) == ["relu#1", "relu#2", "a"]


@given(st.lists(st.lists(NAMES, max_size=3), max_size=6))
def test_all_names_are_different_and_none_is_empty(parts):
    names = distinct_names(parts, ["part"] * len(parts))
    assert len(names) == len(parts)
    assert len(set(names)) == len(names)
    assert all(names)


def test_first_names():
    assert first_names(["a", "b", "c"]) == "a, b, c"
    assert first_names(["a", "b", "c", "d", "e"], 2) == "a, b and 3 more"


def test_plural():
    assert [plural(count, "layer") for count in (0, 1, 1200)] == ["0 layers", "1 layer", "1,200 layers"]


def test_the_module_of_a_parameter():
    assert [module_of(name) for name in ("a.b.weight", "weight")] == ["a.b", "weight"]
