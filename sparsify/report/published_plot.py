"""A plot of published results, each method a line, with runs of one's own among them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sparsify.atomic import writing
from sparsify.errors import InputError, UsageError
from sparsify.published.run import Run
from sparsify.published.table import Result
from sparsify.report.plot_axes import PANEL, density_ticks, legend_beside
from sparsify.report.published import group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_published"]

_PANELS, _COLUMNS = 6, 2
_WIDTH, _ROW = 9.0, 0.155  # inches of a panel with its legend, and of a line of the legend
_MARKS, _DASHES, _COLOURS = "osD^v<>Phpd", ("-", "--", ":", "-."), 10
_OWN = ("#cf222e", "#1a1a1a", "#8250df", "#bc4c00")  # of runs of one's own


def plot_published(results: Sequence[Result], runs: Sequence[Run], path: Path) -> list[Run]:
    """Draw scores by the weights that are left, as a PNG; a panel for each network, data and kind of score.

    A run stands in every panel of its kind of score; those that have none are returned. Results whose source names no
    sparsity have no place.

    Raises:
        UsageError: matplotlib is not installed, or there are too many panels.
        InputError: no result says how much is left, or the file cannot be written.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("Plots need matplotlib: pip install sparsify-fx[plot].") from error
    placed = [result for result in results if result.sparsity is not None]
    panels = {title: (members[0].metric, _lines(members)) for title, members in group(placed).items()}
    if not panels:
        raise InputError("There is nothing to draw: none of the results says how many weights are left.")
    if len(panels) > _PANELS:
        raise UsageError(f"--plot: these are results of {len(panels)} kinds, and a picture shows at most {_PANELS}. "
                         "Choose a network and data with --architecture and --data.")  # fmt: skip
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    height = max(PANEL[1], _ROW * (max(len(lines) for _, lines in panels.values()) + 2 * len(runs)) + 0.8)
    with mpl.rc_context({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False,
                         "axes.spines.right": False}):  # fmt: skip
        figure: Figure = Figure(figsize=(_WIDTH * columns, height * rows), layout="constrained")
        axes = [axis for row in figure.subplots(rows, columns, squeeze=False) for axis in row]
        for axis, (title, (metric, lines)) in zip(axes, panels.items(), strict=False):
            _draw(axis, title, lines, [run for run in runs if run.metric == metric])
        for axis in axes[len(panels) :]:
            axis.remove()
        with writing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=130)
    return [run for run in runs if run.metric not in {metric for metric, _ in panels.values()}]


def _lines(members: Sequence[Result]) -> dict[str, list[tuple[float, float]]]:
    """Return the points of each method, of each paper where several measured the same method."""
    papers = defaultdict[str, set[str]](set)
    for result in members:
        papers[result.method].add(result.paper)
    lines = defaultdict[str, list[tuple[float, float]]](list)
    for result in members:
        first = f" ({result.paper.partition(',')[0]}, {result.year})" if len(papers[result.method]) > 1 else ""
        if result.sparsity is not None:
            lines[f"{result.method}{first}"].append((_left(result.sparsity), result.score))
    return lines


def _left(sparsity: float) -> float:
    """Return what is left in percent; rounded, so that 90% of one network and of another stand at the same place."""
    return round(100 * (1 - sparsity), 2)


def _draw(axis: Axes, title: str, lines: dict[str, list[tuple[float, float]]], runs: Sequence[Run]) -> None:
    for index, (name, points) in enumerate(lines.items()):
        axis.plot(*zip(*points, strict=True), label=name, color=f"C{index % _COLOURS}", linewidth=1, markersize=4,
                  marker=_MARKS[index % len(_MARKS)], linestyle=_DASHES[index // _COLOURS % len(_DASHES)])  # fmt: skip
    for index, run in enumerate(runs):
        colour, task = _OWN[index % len(_OWN)], f", task {run.task}" if run.task else ""
        if run.score is None or run.dense_score is None:  # without them it has no metric, either
            continue
        low, high = run.interval or (run.score, run.score)
        reach = ([max(0.0, run.score - low)], [max(0.0, high - run.score)])
        axis.errorbar(
            [_left(run.sparsity)], [run.score], yerr=reach, label=f"yours: {run.name}{task}", color=colour, marker="*",
            markersize=15, markeredgecolor="white", capsize=3, linestyle="", zorder=10,
        )  # fmt: skip
        axis.axhline(run.dense_score, color=colour, linewidth=1, linestyle=":", label=f"dense of {run.name}")
    lefts = [left for points in lines.values() for left, _ in points] + [_left(run.sparsity) for run in runs]
    density_ticks(axis, lefts)
    if max(lefts) < 2 * min(lefts):
        axis.set_xlim(1.5 * max(lefts), min(lefts) / 1.5)
    name, _, score = title.partition(": ")
    axis.set_xlabel("weights left, %")
    axis.set_ylabel(score)
    axis.set_title(name)
    legend_beside(axis)
