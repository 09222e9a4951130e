"""Panels of sparse training: how the masks change, and how dense every layer is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sparsify.report.history import History
from sparsify.report.plot_axes import few_points, legend_beside, step_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_exchanges", "draw_layers"]

_TOLD_APART = 10  # colours; more layers are shades in the order of the network


def draw_exchanges(axis: Axes, histories: Sequence[History], colours: Mapping[str, Any]) -> None:
    """Draw which share of the kept weights each update moved, and how many weights have been in use so far."""
    single = len(histories) == 1
    for item in histories:
        for points in item.exchanged.values():
            steps, style = [point["step"] for point in points], {"linewidth": 1.2, "color": colours[item.name]}
            marks = few_points(len(points))
            hollow = {**marks, "marker": "s", "markerfacecolor": "none"} if marks else {}
            moved = [point["grown"] / max(1, point["kept"]) for point in points]
            axis.plot(steps, moved, label="moved by an update" if single else item.name, **style, **marks)
            used = [point["itop"] for point in points]
            label = "used so far (ITOP)" if single else None
            axis.plot(steps, used, label=label, linestyle="--", **style, **hollow)
    step_axis(axis)
    axis.set_ylabel("share" if single else "share: moved by an update; dashed, used so far (ITOP)")
    axis.set_ylim(0, None)
    axis.set_title("How the masks change")
    legend_beside(axis)


def draw_layers(axis: Axes, histories: Sequence[History]) -> None:
    """Draw the density of each layer of one retraining, of that whose layers change most."""
    known = {item.name: points for item in histories for points in item.exchanged.values()}
    name = max(known, key=lambda name: len({tuple(point["layers"].values()) for point in known[name]}))
    points = known[name]
    axis.set_title("Density by layer" + (f", {name}" if len(known) > 1 else ""))
    names = list(points[0]["layers"])
    steps = [point["step"] for point in points]
    colours = [f"C{index}" for index in range(len(names))] if len(names) <= _TOLD_APART else _shades(len(names))
    for layer, colour in zip(names, colours, strict=True):
        values = [point["layers"][layer] for point in points]
        axis.plot(
            steps, values, linewidth=1.2, color=colour, label=layer.removesuffix(".weight"), **few_points(len(points))
        )
    step_axis(axis)
    axis.set_ylabel("density")
    _scale(axis, [value for point in points for value in point["layers"].values() if value > 0])
    if len(names) <= _TOLD_APART:
        legend_beside(axis)
    else:
        _shade_bar(axis, [layer.removesuffix(".weight") for layer in names])


def _scale(axis: Axes, shares: Sequence[float]) -> None:
    """Make the y axis logarithmic where densities lie far apart."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    if max(shares, default=1) > 5 * min(shares, default=1):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_locator(NullLocator())


def _shades(count: int) -> list[Any]:
    """Return colours from dark to light, without the lightest, which are hardly seen on white."""
    import matplotlib as mpl

    return [mpl.colormaps["viridis"](0.92 * index / (count - 1)) for index in range(count)]


def _shade_bar(axis: Axes, names: Sequence[str]) -> None:
    """Say beside the axis which shade which layer has, in the order of the network."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    norm, colours = BoundaryNorm([index - 0.5 for index in range(len(names) + 1)], len(names)), _shades(len(names))
    bar = axis.figure.colorbar(ScalarMappable(norm, ListedColormap(colours)), ax=axis, pad=0.02, aspect=30)
    told = sorted({round(k * (len(names) - 1) / (_TOLD_APART - 1)) for k in range(_TOLD_APART)})
    bar.set_ticks(told, labels=[names[index] for index in told])
    bar.ax.tick_params(labelsize=7, length=2)
    bar.ax.minorticks_off()
    bar.ax.invert_yaxis()  # the first layer on top
