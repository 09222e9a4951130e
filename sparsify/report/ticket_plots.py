"""Panels of searches: how far apart masks were, which dimensions were enough, and what networks of one round score."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sparsify.registry import entries
from sparsify.report.history import History
from sparsify.report.plot_axes import DENSE, NETWORKS, few_points, legend_beside, step_axis
from sparsify.spec import parse_spec

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_dimensions", "draw_distances", "draw_networks"]

_LEVELS = {"baseline": ("all parameters", "-"), "score": ("enough", ":"), "start": ("untrained", "--")}


def draw_distances(axis: Axes, histories: Sequence[History], colours: Mapping[str, Any]) -> None:
    """Draw the largest distance between the last masks at each of them, the limit, and where they agreed."""
    limits = set[float]()
    for item in (item for item in histories if item.masks):
        points = [(entry["step"], entry["largest"]) for entry in item.masks if entry["largest"] is not None]
        limit = _limit(item)
        limits.add(limit)
        axis.plot([x for x, _ in points], [y for _, y in points], label=item.name, color=colours[item.name],
                  linewidth=1.2, **few_points(len(points)))  # fmt: skip
        if points and points[-1][1] < limit:
            axis.plot(*points[-1], marker="*", markersize=12, linestyle="", color=colours[item.name],
                      label=f"ticket at step {points[-1][0]:,}")  # fmt: skip
    for limit in sorted(limits):
        axis.axhline(limit, label=f"below {limit:g} masks agree", color=DENSE, linewidth=1, linestyle=":")
    step_axis(axis)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("largest distance of masks in the window")
    axis.set_title("When masks agree")
    legend_beside(axis)


def draw_dimensions(axis: Axes, histories: Sequence[History], colours: Mapping[str, Any]) -> None:
    """Draw scores by trained dimensions, the score that is enough, that of all parameters and that at the start."""
    for item in (item for item in histories if item.dimensions):
        colour = colours[item.name]
        points = [(entry["dimension"], entry["score"]) for entry in item.dimensions]
        axis.plot(*zip(*points, strict=True), label=item.name, color=colour, linewidth=1.2, marker="o", markersize=4)
        if not item.goal:
            continue
        for key, (label, dashes) in _LEVELS.items():
            axis.axhline(item.goal[key], label=label, color=DENSE, linewidth=1, linestyle=dashes)
        enough = [x for x, y in points if y >= item.goal["score"]]
        if enough:
            label = f"intrinsic dimension {min(enough):,}"
            axis.axvline(min(enough), label=label, color=colour, linewidth=0.8, linestyle="--")
    axis.set_xscale("log")
    axis.set_xlabel("trained dimensions")
    axis.set_ylabel("score")
    axis.set_title("Score by dimension")
    legend_beside(axis)


def draw_networks(axis: Axes, histories: Sequence[History]) -> None:
    """Draw a bar for the score of the ticket and of each control, the mean over retrainings of one method."""
    several = len({item.method for item in histories if item.rounds}) > 1
    found = defaultdict[tuple[str, str], list[dict[str, Any]]](list)
    for item in histories:
        for entry in (*item.rounds, *item.controls):
            found[entry.get("control") or entry["network"], item.name if several else ""].append(entry)
    labels = []
    for place, ((network, name), members) in enumerate(reversed(found.items())):
        score = statistics.mean(entry["score"] for entry in members)
        low, high = _interval(members, score)
        axis.barh(place, score, xerr=[[score - low], [high - score]], color=NETWORKS.get(network, DENSE), height=0.7,
                  capsize=2, error_kw={"elinewidth": 0.9, "ecolor": "#6e7781"})  # fmt: skip
        axis.annotate(f"{score:.4f}", (high, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
        labels.append(f"{network}\n{name}" if name else network)
    axis.set_yticks(range(len(labels)), labels)
    axis.margins(x=0.15)
    axis.set_axisbelow(True)
    axis.set_xlabel("score (whiskers: deviation over runs, or the 95% interval of one)")
    axis.set_title("Ticket and controls")


def _interval(members: Sequence[Mapping[str, Any]], mean: float) -> tuple[float, float]:
    """Return mean and deviation over runs as an interval, of one run that of its score."""
    if len(members) > 1:
        deviation = statistics.stdev(entry["score"] for entry in members)
        return mean - deviation, mean + deviation
    low, high = members[0].get("interval") or (mean, mean)
    return min(low, mean), max(high, mean)


def _limit(history: History) -> float:
    """Return the distance that masks must be below, as the method says."""
    name, options = parse_spec(history.method)
    default = next(o.default for o in entries("sparsify.methods")[name].options if o.name == "distance")
    return float(options.get("distance") or default or math.nan)
