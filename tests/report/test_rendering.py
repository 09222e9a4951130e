"""Pages in a headless browser: tables sort, links lead, keys work, phones and dark rooms are served."""

import json

import pytest
from helpers.browser import browser, opened
from helpers.command import small_program
from helpers.reports import latency, report, score
from jinja2 import UndefinedError

import sparsify as sp
from sparsify.inspection import inspection
from sparsify.layer_table import layer_table
from sparsify.report.page import write_page
from sparsify.report.quantities import count
from sparsify.report.rendering import render
from sparsify.report.run_page import write_run_page


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The page of a run, and its report as JSON."""
    folder, before = tmp_path_factory.mktemp("run"), small_program()
    result = sp.run(
        before, ["layer-prune:blocks=layer1.1", "channel-prune:sparsity=0.5", "shrink", "weight-prune:sparsity=0.5"]
    )
    made = {**report(), **result.report, "layers": layer_table(before, result.program).as_dict()}
    made["latency"], made["artefacts"] = latency(), [{"path": "small.onnx", "bytes": 1000}]
    made["scores"] = {"before": score(0.99, [0.97, 1.0]), "after": score(0.98, [0.96, 0.99])}
    write_run_page(folder / "run.html", made, before, result.program)
    return folder / "run.html", json.loads(json.dumps(made))


def column(page, place):
    return [cell.get_attribute("data-v") for cell in page.query_selector_all(f"#layers tbody td:nth-child({place})")]


@pytest.mark.parametrize(("name", "place"), [("parameters", 4), ("MACs", 5), ("time", 6)])
def test_a_click_sorts_by_numbers_and_another_turns_it_round(chromium, run, name, place):
    with opened(chromium, run[0]) as page:
        head = page.locator("#layers th", has_text=name)
        head.get_by_role("button").click()
        values = [float(value) for value in column(page, place) if value]
        assert values == sorted(values)
        assert head.get_attribute("aria-sort") == "ascending"
        head.get_by_role("button").click()
        values = [float(value) for value in column(page, place) if value]
        assert values == sorted(values, reverse=True)
        assert head.get_attribute("aria-sort") == "descending"
        empty = [not value for value in column(page, place)]
        assert empty == sorted(empty)


def test_names_sort_as_people_count_and_one_column_at_a_time(chromium, run):
    with opened(chromium, run[0]) as page:
        page.locator("#layers th", has_text="MACs").get_by_role("button").click()
        page.locator("#layers th", has_text="layer").get_by_role("button").click()
        assert column(page, 1) == sorted(row["module"] for row in run[1]["layers"]["rows"])
        assert page.locator("#layers th[aria-sort]").count() == 1


def test_totals_are_those_of_the_report(chromium, run):
    with opened(chromium, run[0]) as page:
        made = json.loads(page.locator("#report").text_content())
        assert made == run[1]
        total = page.locator("#layers .total td")
        assert int(total.nth(3).get_attribute("data-v")) == made["after"]["parameters"]
        assert int(total.nth(4).get_attribute("data-v")) == made["after"]["macs"]
        assert total.nth(3).text_content().split() == [
            count(made["after"]["parameters"]), "of", count(made["before"]["parameters"]),
        ]  # fmt: skip
        assert sum(int(value) for value in column(page, 4)) == made["after"]["parameters"]
        rest = made["layers"]["rest_macs"][1]
        assert sum(int(value) for value in column(page, 5)) + rest == made["after"]["macs"]


def test_a_box_leads_to_its_row_and_the_row_back(chromium, run):
    with opened(chromium, run[0]) as page:
        link = page.locator("svg a", has_text="layer2.0.conv1").first
        link.click()
        row = page.locator("tr:target")
        assert row.locator("td").first.get_attribute("data-v") == "layer2.0.conv1"
        assert row.is_visible()
        row.locator("a").click()
        assert page.locator(".node:target title").text_content().startswith("layer2.0.conv1")


def test_the_keyboard_suffices(chromium, run):
    with opened(chromium, run[0]) as page:
        page.locator("#layers th button").nth(3).focus()
        page.keyboard.press("Enter")
        assert page.locator("#layers th").nth(3).get_attribute("aria-sort") == "ascending"
        page.locator("svg a").first.focus()
        page.keyboard.press("Enter")
        assert page.locator("tr:target").count() == 1
        page.locator("svg a").first.focus()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('svg') !== null")


def test_pointing_marks_what_belongs_together(chromium, run):
    with opened(chromium, run[0]) as page:
        page.locator(".node[data-pick^=g]").first.hover()
        word = page.locator(".node[data-pick^=g]").first.get_attribute("data-pick").split()[0]
        lit = page.locator("[data-in].on")
        assert lit.count() >= 2
        assert all(word in item.get_attribute("data-in").split() for item in lit.all())


@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_runs_off_the_side(chromium, run, width):
    with opened(chromium, run[0], width=width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("h1").is_visible()
        assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('#layers td')).fontSize)") >= 12


def luminance(page, what):
    colour = page.evaluate(f"getComputedStyle(document.body).{what}")
    return sum(float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]) / 3


def test_dark_rooms(chromium, run):
    with opened(chromium, run[0], color_scheme="light") as page:
        assert luminance(page, "backgroundColor") > 200 > luminance(page, "color")
    with opened(chromium, run[0], color_scheme="dark") as page:
        assert luminance(page, "backgroundColor") < 50 < luminance(page, "color")


def test_without_javascript_all_is_there(chromium, run):
    with opened(chromium, run[0], java_script_enabled=False) as page:
        assert page.locator("#layers tbody tr").count() == len(run[1]["layers"]["rows"])
        assert page.locator("noscript").is_visible()
        page.locator("svg a").first.click()
        assert page.locator("tr:target").count() == 1


def test_the_page_of_groups_sorts_as_well(chromium, tmp_path):
    program = small_program()
    write_page(tmp_path / "groups.html", program, inspection(program), "model.pt2")
    with opened(chromium, tmp_path / "groups.html") as page:
        page.locator("th", has_text="size").first.get_by_role("button").click()
        sizes = [
            int(cell.text_content())
            for cell in page.query_selector_all(".tables table:first-of-type tbody tr[style] td:nth-child(3)")
        ]
        assert sizes == sorted(sizes)


def test_a_template_that_lacks_something_fails():
    with pytest.raises(UndefinedError):
        render("inspection.html", name="model.pt2")
