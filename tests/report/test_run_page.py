"""The page of a run, as text: what it says, and that it loads nothing and escapes names."""

import json

import pytest
import torch
from helpers.command import small_program
from helpers.drawings import Page
from helpers.reports import latency, report, score
from torch import nn

import sparsify as sp
from sparsify.errors import InputError
from sparsify.layer_table import layer_table
from sparsify.report.run_page import write_run_page

NASTY = '<img src="x" onerror=alert(1)>&\'</script>'
PIPELINE = ["layer-prune:blocks=layer1.1", "channel-prune:sparsity=0.5", "shrink", "weight-prune:sparsity=0.5"]


def ran(before, passes, **changes):
    """Run passes; return the result and its report."""
    result = sp.run(before, passes)
    made = {**report(), **result.report, "layers": layer_table(before, result.program).as_dict(), **changes}
    return result.program, json.loads(json.dumps(made))


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    before = small_program()
    after, made = ran(
        before,
        PIPELINE,
        latency=latency(1.6),
        artefacts=[{"path": "small.onnx", "bytes": 1000}],
        scores={
            "before": score(0.99, [0.97, 1.0]),
            "after": score(0.98, [0.96, 0.99]),
        },
        gates=[{"gate": "--max-drop 0.001", "passed": False, "text": "0.009 too much"}],
    )
    path = tmp_path_factory.mktemp("page") / "run.html"
    write_run_page(path, made, before, after)
    text = path.read_text("utf-8")
    return made, text, Page(text)


def rows(page):
    return [(held, text) for held, text in page.all("tr") if held.get("id", "").startswith("row-")]


def test_the_verdict_comes_first(case):
    *_, page = case
    ((_, heading),) = page.all("h1")
    assert heading.startswith("1.60x as fast, file 50% smaller, ")
    assert heading.endswith("of the weights are zeros, accuracy 1.0 points lower (95% intervals overlap)")
    ((_, gate),) = page.all("li", **{"class": "bad"})
    assert gate == "failed --max-drop 0.001: 0.009 too much"
    assert next(text for _, text in page.all("title")).endswith(heading)


def test_every_layer_has_a_row(case):
    made, _, page = case
    found = rows(page)
    assert len(found) == len(made["layers"]["rows"])
    for (held, text), row in zip(found, made["layers"]["rows"], strict=True):
        assert row["module"] in text
        assert ("removed" in text) == (row["after"] is None) == (held["class"] == "gone")


def test_links_lead_to_what_is_there(case):
    *_, page = case
    ids = [held["id"] for _, held, _ in page.elements if "id" in held]
    assert len(ids) == len(set(ids))
    links = [held["href"].removeprefix("#") for held, _ in page.all("a")]
    assert set(links) <= set(ids)
    listed = {held["id"] for held, _ in rows(page)}
    assert listed <= set(links)
    gone = [held for held, _ in page.all("g", **{"class": "gone"}) if "node" in held["class"]]
    assert len(gone) == 4


def test_the_report_is_in_the_page(case):
    made, _, page = case
    ((_, data),) = page.all("script", type="application/json")
    assert json.loads(data) == made


def test_it_loads_nothing(case):
    *_, text, page = case
    assert "url(" not in text
    assert "@import" not in text
    sources = [held[key] for _, held, _ in page.elements for key in ("src", "srcset", "data", "action") if key in held]
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert {tag for tag, *_ in page.elements}.isdisjoint({"link", "iframe", "object", "embed"})


def test_masks_are_pictures_with_words(case):
    made, _, page = case
    pictures = page.all("img")
    masked = [row for row in made["layers"]["rows"] if row["pattern"]]
    assert len(pictures) == len(masked) > 0
    assert all("kept" in held["alt"] for held, _ in pictures)


def test_names_are_escaped(tmp_path):
    before = small_program()
    after, made = ran(before, ["layer-prune"], model=NASTY.replace("/", ""), notes=[NASTY], command=NASTY)
    made["layers"]["rows"][0]["module"] = NASTY
    write_run_page(tmp_path / "run.html", made, before, after)
    page = Page((tmp_path / "run.html").read_text("utf-8"))
    assert page.all("img") == []
    assert len(page.all("script")) == 2
    assert not any(key.startswith("on") for _, held, _ in page.elements for key in held)
    assert page.all("pre")[0][1] == NASTY


def test_a_run_that_did_nothing(tmp_path):
    program = sp.capture(nn.Linear(3, 2), (torch.randn(2, 3),))
    after, made = ran(program, [])
    write_run_page(tmp_path / "run.html", made, program, after)
    page = Page((tmp_path / "run.html").read_text("utf-8"))
    assert page.all("h1")[0][1] == "Nothing changed"
    assert page.all("svg", **{"class": "curve"}) == []


def test_the_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    program = sp.capture(nn.Linear(3, 2), (torch.randn(2, 3),))
    after, made = ran(program, [])
    (tmp_path / "run.html").write_text("old")
    monkeypatch.setattr("sparsify.report.run_page.uses", lambda *args: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        write_run_page(tmp_path / "run.html", made, program, after)
    assert (tmp_path / "run.html").read_text() == "old"
    monkeypatch.undo()
    with pytest.raises(InputError, match="does not exist"):
        write_run_page(tmp_path / "no" / "run.html", made, program, after)
