"""Heat: the colours and the numbers of a scan, and the table in a terminal."""

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from sparsify.report.heat import cell, explanation, heat, print_heat
from sparsify.sensitivity import LEVELS, Scan

LOSS, GAP = "rise of the loss", "relative change of the output"
SCAN = Scan(
    "weights",
    "magnitude",
    (0.5, 0.9),
    8,
    0,
    "0123456789abcdef",
    LOSS,
    {"stem.weight": [0.0004, 0.25], "head.weight": [-0.01, 2.5]},
    {"stem.weight": 36, "head.weight": 12_500},
)


def printed(found, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    print_heat(console, found)
    return console.export_text(clear=False).splitlines(), console.export_text(styles=True)


def test_heat_is_logarithmic_over_three_decades_below_the_highest():
    found = heat({"a": [10.0, 1.0, 0.1], "b": [0.01, 0.001, 10 * 10**-1.5]})
    assert found["a"] == pytest.approx([1, 2 / 3, 1 / 3])
    assert found["b"] == pytest.approx([0, 0, 0.5])


def test_what_costs_nothing_is_cold_and_what_is_not_finite_is_hot():
    assert heat({"a": [0.0, -5.0, 2.0, math.nan, math.inf]}) == {"a": [0, 0, 1, 1, 1]}


@pytest.mark.parametrize("values", [[0.0, 0.0], [-1.0, -2.0], []])
def test_where_nothing_costs_anything_all_is_cold(values):
    assert heat({"a": values}) == {"a": [0.0] * len(values)}
    assert heat({}) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00049, "0"),
        (-0.00049, "0"),
        (0.0005, ".001"),
        (0.0123, ".012"),
        (-0.0123, "-.012"),
        (0.0994, ".099"),
        (0.0995, "0.10"),
        (0.5, "0.50"),
        (-0.5, "-0.50"),
        (9.994, "9.99"),
        (9.996, "10"),
        (12.34, "12.3"),
        (123.4, "123"),
        (1e9, "1e+09"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_a_cell_is_short(value, text):
    assert cell(value) == text
    assert len(text) <= 5


def test_the_explanation_says_what_was_measured():
    assert explanation(SCAN) == (
        "rise of the loss when so much of the weights of each layer goes, each alone, the lowest by magnitude first; "
        "nothing is retrained"
    )
    other = explanation(replace(SCAN, unit="channels", criterion="taylor", quantity=GAP))
    assert other.startswith(f"{GAP} when so much of the channels of each group goes")
    assert "the lowest by taylor first" in other


def test_the_table_has_a_row_for_each_layer():
    lines, _ = printed(SCAN)
    assert [line.split() for line in lines[:3]] == [
        ["layer", "weights", "0.5", "0.9"],
        ["stem", "36", "0", "0.25"],
        ["head", "12.50k", "-.010", "2.50"],
    ]
    assert " ".join(" ".join(lines[3:]).split()) == explanation(SCAN)


def test_an_ending_that_only_some_have_stays():
    layers = {"stem.weight": [0.1, 0.2], "cell.weight_hh_l0": [0.1, 0.2]}
    lines, _ = printed(replace(SCAN, layers=layers, sizes=dict.fromkeys(layers, 4)))
    assert [line.split()[0] for line in lines[1:3]] == list(layers)


def test_channels_are_of_groups():
    lines, _ = printed(replace(SCAN, unit="channels"))
    assert lines[0].split()[:2] == ["group", "channels"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits_the_terminal_and_no_number_is_cut(width):
    names = {"encoder.layers.11.self_attention.output_projection.weight": 7, "fc": 2_359_296}
    values = [-0.0234, 0.012345, 0.5, 1.25, 12.3, 123.4, 1e9, 9.99]
    found = replace(SCAN, sparsities=LEVELS, layers=dict.fromkeys(names, values), sizes=names)
    lines, _ = printed(found, width)
    assert all(len(line) <= width for line in lines)
    text = " ".join(lines).split()
    assert all(text.count(word) == 2 for word in map(cell, values))
    assert all(text.count(f"{level:g}") == 1 for level in LEVELS)


def test_names_are_no_markup():
    layers = {"[red]stem[/red]": [0.1, 0.2], "[/bold]": [0.1, 0.2]}
    lines, _ = printed(replace(SCAN, layers=layers, sizes=dict.fromkeys(layers, 4)))
    assert [line.split()[0] for line in lines[1:3]] == list(layers)


def test_hotter_cells_have_other_colours():
    layers = {f"{power}": [10.0**power, 0.0] for power in (0, -1, -2, -3)}
    _, styled = printed(replace(SCAN, layers=layers, sizes=dict.fromkeys(layers, 4)))
    rows = [line for line in styled.splitlines() if line[:2] in ("0 ", "-1", "-2", "-3")]
    colours = [row.split("48;5;")[1].split("m")[0] for row in rows]
    assert len(set(colours)) == 4


def test_a_scan_of_nothing_is_an_empty_table():
    lines, _ = printed(replace(SCAN, layers={}, sizes={}))
    assert lines[0].split() == ["layer", "weights", "0.5", "0.9"]
