"""The page that `sparsify inspect --html` writes: the groups of a model drawn over its graph, in one file."""

from __future__ import annotations

from pathlib import Path

from sparsify.atomic import writing
from sparsify.inspection import Inspection
from sparsify.program import Program
from sparsify.report.diagram import diagram
from sparsify.report.rendering import render

__all__ = ["write_page"]


def write_page(path: str | Path, program: Program, found: Inspection, name: str) -> None:
    """Write the page for a program.

    Args:
        path: of the file.
        program: that was inspected.
        found: what was found.
        name: of the model, as the page should call it.

    Raises:
        InputError: the file cannot be written.
    """
    with writing(path) as temporary:
        temporary.write_text(
            render("inspection.html", **diagram(program, found), name=name, found=found), encoding="utf-8"
        )
