"""The files of a report: `.json` for programs, `.html` for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsify.atomic import check_writable, writing
from sparsify.errors import UsageError
from sparsify.program import Program
from sparsify.report.run_page import write_run_page

__all__ = ["HERE", "check_reports", "write_json", "write_reports"]

HERE = Path(__file__).parent
"""Where `schema.json` is, the JSON Schema of reports."""


def check_reports(paths: Sequence[Path]) -> None:
    """Check endings and folders before any work is done.

    Raises:
        UsageError: an ending says no known format.
        InputError: a file cannot be written.
    """
    for path in paths:
        if path.suffix not in (".json", ".html"):
            raise UsageError(f"{path}: a report is written as .json, for programs, or as .html, for people.")
        check_writable(path)


def write_reports(paths: Sequence[Path], report: Mapping[str, Any], before: Program, after: Program) -> None:
    """Write the files of a report.

    Args:
        paths: of the files; their endings say the format.
        report: of the run, with `layers`.
        before: the model at the start.
        after: the result.

    Raises:
        InputError: a file cannot be written.
    """
    for path in paths:
        if path.suffix == ".json":
            write_json(path, report)
        else:
            write_run_page(path, report, before, after)


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report as JSON."""
    with writing(path) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
