"""The page that `sparsify sensitivity --html` writes: a heat map in one file."""

from __future__ import annotations

from pathlib import Path

from sparsify.atomic import writing
from sparsify.report.heat import cell, explanation, heat, labels
from sparsify.report.rendering import render
from sparsify.sensitivity import Scan

__all__ = ["write_heat"]


def write_heat(path: str | Path, found: Scan, name: str) -> None:
    """Write the heat map of a scan.

    Args:
        path: of the file.
        found: the scan.
        name: of the model, as the page should call it.

    Raises:
        InputError: the file cannot be written.
    """
    hot, names = heat(found.layers), labels(found)
    rows = [
        {
            "name": names[layer],
            "size": found.sizes[layer],
            "cells": [
                {"text": cell(value), "heat": round(100 * part), "exact": f"{value:.6g}"}
                for value, part in zip(values, hot[layer], strict=True)
            ],
        }
        for layer, values in found.layers.items()
    ]
    with writing(path) as temporary:
        temporary.write_text(
            render("heat.html", name=name, found=found, rows=rows, explanation=explanation(found)), encoding="utf-8"
        )
