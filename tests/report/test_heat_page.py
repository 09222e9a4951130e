"""The page of a scan: every number is on it, names are escaped, and nothing is loaded."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from helpers.drawings import Page

from sparsify.errors import InputError
from sparsify.report.heat import cell, explanation
from sparsify.report.heat_page import write_heat
from sparsify.sensitivity import Scan

NASTY = '<img src="x" onerror=alert(1)>&\'</script>'
LAYERS = {
    "stem.weight": [0.0004, 0.25, float("nan")],
    "body.0.conv1.weight": [-0.01, 2.5, 123456.789],
    "head.weight": [0.0, 0.0, 1e-9],
}
SIZES = {"stem.weight": 36, "body.0.conv1.weight": 12_500, "head.weight": 2_359_296}
SCAN = Scan("weights", "magnitude", (0.3, 0.5, 0.95), 8, 0, "0123456789abcdef", "rise of the loss", LAYERS, SIZES)


def drawn(folder, found=SCAN, name="model.pt2"):
    write_heat(folder / "heat.html", found, name)
    return (folder / "heat.html").read_text("utf-8")


def test_every_number_is_there_with_its_exact_value(tmp_path):
    page = Page(drawn(tmp_path))
    cells = page.all("td", **{"class": "hot"})
    assert [text for _, text in cells] == [cell(value) for values in LAYERS.values() for value in values]
    assert [held["title"] for held, _ in cells] == [
        f"{name.removesuffix('.weight')} at {level:g}: {value:.6g}"
        for name, values in LAYERS.items()
        for level, value in zip(SCAN.sparsities, values, strict=True)
    ]


def test_every_layer_has_a_row_and_every_sparsity_a_column(tmp_path):
    page = Page(drawn(tmp_path))
    heads = [(held, text) for held, text in page.all("th")]
    assert [text for held, text in heads if held["scope"] == "row"] == [name.removesuffix(".weight") for name in LAYERS]
    assert [text for held, text in heads if held["scope"] == "col"] == ["layer", "weights", "0.3", "0.5", "0.95"]
    sizes = [text for held, text in page.all("td") if held["class"] == "number"]
    assert sizes == ["36", "12.50k", "2.36M"]


def test_the_heat_of_a_cell_is_a_percentage(tmp_path):
    page = Page(drawn(tmp_path))
    heats = [held["style"] for held, _ in page.all("td", **{"class": "hot"})]
    assert all(style.startswith("--heat:") and style.endswith("%") for style in heats)
    values = [int(style[7:-1]) for style in heats]
    assert values[:2] == [0, 0]  # more than three decades below 123456.789
    assert values[2] == 100  # not finite
    assert values[3:6] == [0, 0, 100]


def test_it_says_what_it_shows(tmp_path):
    text = drawn(tmp_path)
    page = Page(text)
    assert page.all("title")[0][1] == page.all("h1")[0][1] == "model.pt2: sensitivity"
    said = page.all("p")[0][1]
    assert said == f"R{explanation(SCAN)[1:]}."


def test_channels_are_of_groups(tmp_path):
    heads = [text for _, text in Page(drawn(tmp_path, replace(SCAN, unit="channels"))).all("th")]
    assert heads[:2] == ["group", "channels"]


def test_names_are_escaped(tmp_path):
    found = replace(SCAN, layers={NASTY: [1.0, 2.0, 3.0]}, sizes={NASTY: 4}, criterion=NASTY)
    page = Page(drawn(tmp_path, found, NASTY))
    assert page.all("img") == []
    assert len(page.all("script")) == 1
    assert NASTY in page.all("h1")[0][1]
    assert [text for held, text in page.all("th") if held["scope"] == "row"] == [NASTY]
    assert page.all("td", **{"class": "hot"})[0][0]["title"] == f"{NASTY} at 0.3: 1"
    assert not any(key.startswith("on") for _, held, _ in page.elements for key in held)


def test_it_loads_nothing(tmp_path):
    text = drawn(tmp_path)
    page = Page(text)
    assert not any(word in text for word in ("://", "url(", "@import"))
    assert not any(key in ("src", "srcset", "data", "action", "href") for _, held, _ in page.elements for key in held)
    assert {tag for tag, *_ in page.elements}.isdisjoint({"link", "img", "iframe", "object", "embed"})
    ((policy, _),) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'")


class Nesting(HTMLParser):
    """Where each cell and row of a table is."""

    def __init__(self, text):
        super().__init__()
        self.open, self.parents = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.parents.append((tag, self.open[-1] if self.open else None))
        if tag not in ("meta", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_table_is_valid(tmp_path):
    found = Nesting(drawn(tmp_path))
    assert found.open == []
    own = {"td": {"tr"}, "th": {"tr"}, "tr": {"thead", "tbody"}, "tbody": {"table"}, "thead": {"table"}}
    assert all(parent in own[tag] for tag, parent in found.parents if tag in own)
    assert [tag for tag, _ in found.parents].count("tr") == 1 + len(LAYERS)


def test_the_file_appears_whole_or_not_at_all(tmp_path):
    (tmp_path / "heat.html").write_text("old")
    with pytest.raises(KeyError):
        drawn(tmp_path, replace(SCAN, sizes={}))
    assert (tmp_path / "heat.html").read_text() == "old"
    with pytest.raises(InputError, match="does not exist"):
        write_heat(tmp_path / "no" / "heat.html", SCAN, "model.pt2")
