"""The command `sparsify plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sparsify.atomic import check_writable
from sparsify.console import out
from sparsify.errors import UsageError
from sparsify.options import INPUT, OUTPUT

__all__ = ["plot"]


def plot(
    *logs: Annotated[
        Path,
        Parameter(
            help="a .log.jsonl, or what --work made; of one method with several seeds the mean is drawn", group=INPUT
        ),
    ],
    output: Annotated[Path, Parameter(name=("--output", "-o"), help="the picture, a .png file", group=OUTPUT)] = Path(
        "retraining.png"
    ),
) -> None:
    """Draw what retrainings did: scores by density with controls, learning curves, how masks moved."""
    if not logs:
        raise UsageError("sparsify plot takes logs of retrainings (.log.jsonl), or the folders that --work made.")
    if output.suffix != ".png":
        raise UsageError(f"{output}: the picture is a .png file.")
    check_writable(output)
    from sparsify.report.history import read_history
    from sparsify.report.plots import plot as draw

    draw([read_history(log) for log in logs], output)
    out.print(f"wrote {output}", highlight=False, markup=False, soft_wrap=True)
