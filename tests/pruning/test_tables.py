"""Tables: what a file says of each layer, and what a scan of losses means."""

import json

import pytest

from sparsify.errors import InputError, PassError
from sparsify.pruning.tables import densities_of, read_table

SIZES = {"stem.weight": 10, "body.0.weight": 100, "body.1.weight": 200, "head.weight": 50}


def table_of(tmp_path, text):
    path = tmp_path / "table.yaml"
    path.write_text(text)
    return read_table(str(path))


def test_a_table_is_yaml_or_json(tmp_path):
    expected = {"body.*": 0.5, "head": 0}
    assert table_of(tmp_path, "body.*: 0.5\nhead: 0\n") == expected
    assert table_of(tmp_path, json.dumps(expected)) == expected


def test_a_table_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"The table .*nowhere\.yaml cannot be read: .*No such file"):
        read_table(str(tmp_path / "nowhere.yaml"))
    with pytest.raises(InputError, match="cannot be read"):
        read_table(str(tmp_path))
    with pytest.raises(InputError, match="cannot be read"):
        table_of(tmp_path, "a: [1, 2")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="cannot be read"):
        read_table(str(tmp_path / "binary"))


@pytest.mark.parametrize("text", ["", "- 0.5\n- 0.2\n", "0.5", "{}", "hello"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    with pytest.raises(InputError, match="is no mapping from names of layers to sparsities"):
        table_of(tmp_path, text)


def test_parameters_modules_and_patterns_are_names():
    table = {"stem.weight": 0.25, "body.1": 0.75, "h*": 0.5}
    assert densities_of(table, SIZES, None) == {
        "stem.weight": 0.75, "body.0.weight": 1.0, "body.1.weight": 0.25, "head.weight": 0.5}  # fmt: skip


def test_the_first_that_fits_counts():
    one = densities_of({"body.1": 0.9, "*": 0.5}, SIZES, None)
    assert one == pytest.approx({"stem.weight": 0.5, "body.0.weight": 0.5, "body.1.weight": 0.1, "head.weight": 0.5})
    assert densities_of({"body.?": 0.2, "*": 1}, SIZES, None)["body.1.weight"] == pytest.approx(0.8)


def test_zero_and_one_are_sparsities():
    assert densities_of({"stem": 0, "head": 1}, SIZES, None)["head.weight"] == 0
    assert densities_of({"stem": 0, "head": 1}, SIZES, None)["stem.weight"] == 1


def test_a_layer_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(PassError, match=r"tail fits no layer that may be pruned\. There are: stem\.weight, body\.0"):
        densities_of({"stem": 0.5, "tail": 0.5}, SIZES, None)


def test_an_entry_that_an_earlier_one_hides_is_refused_as_such():
    with pytest.raises(PassError, match=r"body\.1 .*an earlier entry"):
        densities_of({"*": 0.5, "body.1": 0.9}, SIZES, None)


@pytest.mark.parametrize("value", [1.5, -0.1, "half", None, [0.5], float("nan"), "0.5", True])
def test_a_value_that_is_no_sparsity_is_refused(value):
    with pytest.raises(PassError, match=r"of head is no sparsity between 0 and 1"):
        densities_of({"head": value}, SIZES, None)


def test_a_sparsity_beside_a_table_is_refused():
    with pytest.raises(PassError, match="says how much of each layer goes; leave out sparsity="):
        densities_of({"head": 0.5}, SIZES, 0.5)


SCAN = {
    "sparsities": [0.25, 0.5, 0.75],
    "layers": {"a.weight": [0.1, 0.2, 0.9], "b.weight": [0.0, 1.0, 1.2]},
}
TWO = {"a.weight": 100, "b.weight": 100}


def test_a_scan_needs_a_sparsity():
    with pytest.raises(PassError, match="The table is a scan; say with sparsity= how much should go"):
        densities_of(SCAN, TWO, None)


@pytest.mark.parametrize(
    ("sparsity", "gone"),
    [
        # losses per weight: b 0 to 25%; a 0.4 to 50%; b 1.2/0.5 from 25% to 75% (the hull leaves out 50%); a 2.8
        (0.05, (0.0, 0.1)),
        (0.125, (0.0, 0.25)),
        (0.25, (0.25, 0.25)),
        (0.375, (0.5, 0.25)),
        (0.5, (0.5, 0.5)),
        (0.625, (0.5, 0.75)),
        (0.7, (0.65, 0.75)),
        (0.75, (0.75, 0.75)),
    ],
)
def test_a_scan_goes_along_the_cheapest_edges(sparsity, gone):
    found = densities_of(SCAN, TWO, sparsity)
    assert [1 - value for value in found.values()] == pytest.approx(list(gone))
    assert sum(100 * (1 - value) for value in found.values()) == pytest.approx(sparsity * 200)


def test_a_large_layer_costs_less_for_each_weight():
    scan = {"sparsities": [0.5], "layers": {"small": [0.1], "large": [0.2]}}
    found = densities_of(scan, {"small": 10, "large": 1000}, 0.25)  # 0.02 and 0.0004 per weight
    assert found["small"] == 1
    assert found["large"] == pytest.approx(1 - 252.5 / 1000)


def test_a_loss_that_falls_counts_as_none():
    scan = {"sparsities": [0.4, 0.8], "layers": {"a": [-0.5, 0.1], "b": [0.05, 0.2]}}
    found = densities_of(scan, {"a": 10, "b": 10}, 0.2)
    assert found == pytest.approx({"a": 0.6, "b": 1.0})


def test_the_order_of_the_levels_does_not_matter():
    scan = {"sparsities": [0.75, 0.25, 0.5], "layers": {"a.weight": [0.9, 0.1, 0.2], "b.weight": [1.2, 0.0, 1.0]}}
    assert densities_of(scan, TWO, 0.6) == pytest.approx(densities_of(SCAN, TWO, 0.6))


def test_a_scan_may_hold_the_dense_layer():
    scan = {"sparsities": [0.0, 0.5], "layers": {"a": [0.0, 0.2]}}
    assert densities_of(scan, {"a": 100}, 0.25) == pytest.approx({"a": 0.75})


def test_a_layer_goes_no_further_than_its_loss_is_finite():
    scan = {"sparsities": [0.25, 0.5], "layers": {"a": [0.1, float("nan")], "b": [1.0, float("inf")]}}
    assert densities_of(scan, {"a": 100, "b": 100}, 0.2) == pytest.approx({"a": 0.75, "b": 0.85})
    with pytest.raises(PassError, match=r"The scan goes to 0\.250"):
        densities_of(scan, {"a": 100, "b": 100}, 0.3)


def test_more_than_the_scan_knows_is_refused():
    with pytest.raises(PassError, match=r"The scan goes to 0\.750 of all weights; sparsity=0\.8 is more\."):
        densities_of(SCAN, TWO, 0.8)


def test_a_layer_that_was_not_scanned_is_refused():
    with pytest.raises(PassError, match=r"The scan does not know c\.weight\. Scan this model, or protect that layer"):
        densities_of(SCAN, {**TWO, "c.weight": 10}, 0.5)


@pytest.mark.parametrize("losses", [[0.1], [0.1, 0.2, 0.3, 0.4], ["a", "b", "c"], 0.5])
def test_a_broken_scan_is_refused(losses):
    with pytest.raises(PassError, match=r"a\.weight"):
        densities_of({**SCAN, "layers": {**SCAN["layers"], "a.weight": losses}}, TWO, 0.5)
