"""What the panels of a plot share: lines that can be told apart, ticks that do not overlap, legends beside the axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "CONTROLS", "DENSE", "NETWORKS", "PANEL", "TICKET", "density_ticks", "few_points", "legend_beside", "step_axis",
]  # fmt: skip

PANEL = (6.6, 4.4)  # inches, with the legend
_AXIS = 4.6  # inches of a panel that its axis has, about
_LETTER, _GAP = 0.066, 0.06  # inches of a label

DENSE, TICKET = "#24292f", "#1a7f37"
CONTROLS: dict[str, dict[str, Any]] = {  # colour, mark and dashes: of several methods the colour says which
    "reinit": {"color": "#b35900", "marker": "s", "dashes": (4, 1.5)},
    "random": {"color": "#8250df", "marker": "^", "dashes": (1.5, 1.5)},
    "shuffle": {"color": "#0969da", "marker": "v", "dashes": (6, 1.5, 1, 1.5)},
    "invert": {"color": "#cf222e", "marker": "D", "dashes": (3, 1, 1, 1, 1, 1)},
    "small-dense": {"color": "#6e7781", "marker": "P", "dashes": (8, 2)},
}
NETWORKS = {"ticket": TICKET, "dense": DENSE, **{name: style["color"] for name, style in CONTROLS.items()}}
_FEW = 15


def few_points(count: int) -> dict[str, Any]:
    """Return the style of a line of so many points: one alone is seen only with a mark."""
    return {"marker": "o", "markersize": 3.5} if count <= _FEW else {}


def density_ticks(axis: Axes, values: Sequence[float]) -> None:
    """Make the x axis logarithmic from dense to sparse, with a plain number at every value where there is room."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_xscale("log")
    positive = sorted({value for value in values if value > 0}, reverse=True)
    whole = math.log(positive[0] / positive[-1]) if len(positive) > 1 else 1.0
    chosen: list[float] = []
    for value in positive:
        wide = _LETTER * len(_percent(value)) + _GAP
        if not chosen or _AXIS * math.log(chosen[-1] / value) / whole >= wide:
            chosen.append(value)
    axis.xaxis.set_major_locator(FixedLocator(chosen))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _percent(value)))
    axis.invert_xaxis()


def step_axis(axis: Axes) -> None:
    """Let the x axis count steps, which are whole."""
    from matplotlib.ticker import MaxNLocator

    axis.set_xlabel("step")
    axis.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True, min_n_ticks=1))


def legend_beside(axis: Axes) -> None:
    """Put the legend to the right of the axis, where no line is."""
    axis.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.3)


def _percent(value: float) -> str:
    return f"{value:.3g}" if value < 99.95 else f"{value:.0f}"
