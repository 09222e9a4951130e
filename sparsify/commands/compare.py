"""The command `sparsify compare`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sparsify.atomic import check_writable
from sparsify.console import out, print_json
from sparsify.errors import UsageError
from sparsify.options import INPUT, OUTPUT, WORK, AsJson
from sparsify.published.run import read_run
from sparsify.published.table import read_table, select, shipped
from sparsify.report.published import print_published

__all__ = ["compare"]


def compare(
    *,
    architecture: Annotated[
        list[str] | None,
        Parameter(negative="", help="only these networks: ResNet-50; a beginning takes all: ResNet", group=WORK),
    ] = None,
    data: Annotated[
        list[str] | None, Parameter(negative="", help="only results on these data: ImageNet, CIFAR-10", group=WORK)
    ] = None,
    method: Annotated[
        list[str] | None, Parameter(negative="", help="only these methods: RigL, SNIP, Wanda", group=WORK)
    ] = None,
    run: Annotated[
        list[Path] | None,
        Parameter(negative="", help="a report of your own (report.json of --report) beside them", group=INPUT),
    ] = None,
    table: Annotated[
        list[Path] | None, Parameter(negative="", help="a CSV file of further results, with these columns", group=INPUT)
    ] = None,
    plot: Annotated[
        Path | None, Parameter(help="also draw scores by what is left, in a .png file (extra: plot)", group=OUTPUT)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show published results, each with its source, and your own runs beside them.

    The columns of a table are method, paper, year, architecture, data, sparsity and macs_removed (0.9 is 90%), metric
    (accuracy, AP, BLEU and F1 in percent; perplexity; others as `name (lower)` or `name (higher)`), score, dense_score,
    source. What a source does not say is empty. Every filter may be repeated.
    """
    if plot is not None:
        if plot.suffix != ".png":
            raise UsageError(f"{plot}: the picture is a .png file.")
        check_writable(plot)
    runs = [read_run(path) for path in run or ()]
    results = [*shipped(), *(result for path in table or () for result in read_table(path))]
    chosen = select(results, architecture or (), data or (), method or ())
    left_out = []
    if plot is not None:
        from sparsify.report.published_plot import plot_published

        left_out = plot_published(chosen, runs, plot)
    if as_json:
        print_json({
            "published": [{**asdict(one), "change": one.change} for one in chosen],
            "runs": [{**asdict(one), "change": one.change} for one in runs],
        })  # fmt: skip
        return
    print_published(out, chosen, runs)
    for one in left_out:
        out.print(f"note: {one.name} is not in the picture, which has no scores of its kind.", highlight=False,
                  markup=False)  # fmt: skip
    if plot is not None:
        out.print(f"wrote {plot}", highlight=False, markup=False, soft_wrap=True)
