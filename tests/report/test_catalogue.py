from pathlib import Path

import pytest

from sparsify.registry import entries
from sparsify.report.catalogue import catalogue

PAGE = Path(__file__).resolve().parents[2] / "docs" / "criteria.md"


def test_the_page_in_the_docs_is_up_to_date():
    if not PAGE.exists():
        pytest.skip("these tests are a copy without the docs")
    assert PAGE.read_text("utf-8") == catalogue(), "python -m sparsify.report.catalogue > docs/criteria.md"


def test_every_criterion_has_a_row_with_its_source():
    rows = [line for line in catalogue().splitlines() if line.startswith("| `")]
    assert len(rows) == len(entries("sparsify.criteria"))
    assert [row for row in rows if row.endswith("| – |")] == [row for row in rows if row.startswith("| `random`")]


def test_bars_do_not_break_the_table():
    (row,) = [line for line in catalogue().splitlines() if line.startswith("| `snip` ")]
    assert r"\|g θ\|" in row
    assert "| yes | yes | yes | loss |" in row
