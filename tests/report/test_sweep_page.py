"""The page of a sweep: every row, the fronts, links to trials, and nothing that loads."""

import re

from helpers.browser import browser, opened
from helpers.drawings import Page
from helpers.sweeps import done, trial

from sparsify.report.sweep_page import write_sweep_page
from sparsify.sweeps.results import Measured, rows

NASTY = '<img src="x" onerror=alert(1)>&\'</script>'
FOUND = [
    done("k0", 0.90), done("k1", 0.92, seed=1), done("k2", 0.93, method="b", macs=500, together=2),
    Measured(trial("k3", seed=3, method="b"), None, "it diverged"),
    Measured(trial("k4", seed=4, method="b"), None, None),
]  # fmt: skip


def drawn(folder, found=FOUND, text="models: m.pt2"):
    write_sweep_page(folder / "sweep.html", ("sweep.yaml", "sparsify sweep sweep.yaml"), text, rows(found), found)
    return Page((folder / "sweep.html").read_text("utf-8"))


def test_it_has_rows_points_and_links(tmp_path):
    page = drawn(tmp_path)
    text = (tmp_path / "sweep.html").read_text("utf-8")
    assert page.all("h1")[0][1] == "3 of 5 trials done: 1 model, 2 methods, 1 sparsity, 4 seeds"
    links = [held["href"] for held, _ in page.all("a")]
    assert links == [f"trials/{key}/report.json" for key in ("k0", "k1", "k2")] + ["trials/k3/error.txt"] * 2
    assert len(page.all("svg")) == 2  # by parameters and by multiply-accumulates
    points = re.findall(r'<g class="point (\w+)( best)?"', text)
    assert points == [("dense", " best"), ("method", ""), ("method", " best")] * 2
    assert "a at 0.5: 0.9100" in text
    assert "it diverged" in text
    assert [text for _, text in page.all("pre")] == ["models: m.pt2", "sparsify sweep sweep.yaml"]


def test_it_says_how_seeds_were_trained(tmp_path):
    found = [done("k0", together=2), done("k1", method="b"), done("k2", seed=1, method="b")]
    for one in found[1:]:
        one.report["one_by_one"] = "there is <dropout>"
    drawn(tmp_path, found)
    text = (tmp_path / "sweep.html").read_text("utf-8")
    assert "1 of 3 trials were trained up to 2 seeds at once" in text
    assert text.count("m.pt2, b at 0.5: there is &lt;dropout&gt;") == 1
    assert "&plusmn; 0.0200" in text  # of the examples: both seeds of b gave the same


def test_a_single_scored_row_has_no_drawing_but_its_table(tmp_path):
    page = drawn(tmp_path, [Measured(trial(), None, None)])
    assert page.all("svg") == []
    assert page.all("h1")[0][1].startswith("0 of 1 trial done")


def test_names_are_escaped(tmp_path):
    page = drawn(tmp_path, [done(method=NASTY), Measured(trial("k1", seed=1, method=NASTY), None, NASTY)], NASTY)
    assert page.all("img") == []
    assert len(page.all("script")) == 1


def test_a_browser_shows_it_and_sorts(tmp_path):
    drawn(tmp_path)
    with browser() as started, opened(started, tmp_path / "sweep.html") as page:
        button = page.locator("th button", has_text="accuracy")
        button.click()
        button.click()
        first = page.locator("tbody tr").first
        assert first.inner_text().split()[0] == "(before)"
