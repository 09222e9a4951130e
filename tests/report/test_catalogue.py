import re
from pathlib import Path

import pytest

from sparsify.registry import entries
from sparsify.report.catalogue import criteria, methods

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("page", [criteria, methods])
def test_the_page_in_the_docs_is_up_to_date(page):
    path = DOCS / f"{page.__name__}.md"
    if not path.exists():
        pytest.skip("these tests are a copy without the docs")
    renew = f"python -m sparsify.report.catalogue {page.__name__} > docs/{page.__name__}.md"
    assert path.read_text("utf-8") == page(), renew


def test_every_criterion_has_a_row_with_its_source():
    rows = [line for line in criteria().splitlines() if line.startswith("| `")]
    assert len(rows) == len(entries("sparsify.criteria"))
    assert [row for row in rows if row.endswith("| – |")] == [row for row in rows if row.startswith("| `random`")]


def test_bars_do_not_break_the_table():
    (row,) = [line for line in criteria().splitlines() if line.startswith("| `snip` ")]
    assert r"\|g θ\|" in row
    assert "| yes | yes | yes | loss |" in row


def rows_of(page):
    """The rows of the overviews: where they link to → cells."""
    cells = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| [`")]
    return {row[0].partition("`](#")[2].removesuffix(")"): row for row in cells}


def test_every_method_has_a_row_and_a_section():
    page = methods()
    rows = rows_of(page)
    for package in ("passes", "methods", "mask_updates", "strong"):
        for name, entry in entries(f"sparsify.{package}").items():
            assert f"\n### {name} {{#{package}-{name}}}\n\n{entry.summary}\n" in page
            assert entry.summary.rstrip(".").replace("|", r"\|") in rows[f"{package}-{name}"]


def test_options_are_described_and_fields_of_the_training_loop_are_not():
    page = methods()
    assert "\n| `count=` | whole number |  | how many blocks to remove. |\n" in page
    assert "\n| `granularity=` | `layer`, `sublayer` | `layer` |" in page
    rule = page.partition("{#mask_updates-rigl}")[2].partition("\n### ")[0]
    assert re.findall(r"^\| `(\w+)=` \|", rule, re.MULTILINE) == ["every", "alpha", "until"]


def test_a_method_without_a_source_is_ours():
    rows = rows_of(methods())
    ours = {"fold", "lower", "lower-bitmask", "lower-block", "lower-index", "lower-nm", "mask-zeros", "shrink"}
    assert {name for name, row in rows.items() if row[-1] == "–"} == {f"passes-{name}" for name in ours}


def test_contracts_and_defaults_are_said():
    rows = rows_of(methods())
    assert rows["passes-shrink"][-2] == "exact"
    assert rows["passes-layer-prune"][-2] == "lossy"
    assert "`alpha=0.3`" in rows["mask_updates-rigl"][-2]
