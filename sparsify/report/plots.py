"""Plots of retrainings: accuracy against density, learning curves, how masks change, how dense layers are."""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsify.atomic import writing
from sparsify.errors import InputError, UsageError
from sparsify.report.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = ["plot"]

_LABELS = 16  # more are not readable
_ROUNDS = 6  # labels of a lottery's rounds

_COLOURS = {"ticket": "#1a7f37", "reinit": "#b35900", "random": "#8250df", "shuffle": "#0969da", "invert": "#cf222e",
            "small-dense": "#6e7781", "dense": "#24292f"}  # fmt: skip


def plot(histories: Sequence[History], path: str | Path) -> None:
    """Draw what some retrainings did, as a PNG; several of the same method are taken as its seeds.

    There is a panel for what there is: accuracy against density with controls, learning curves, the share of weights
    that updates moved and the ITOP rate, densities by layer.

    Raises:
        UsageError: matplotlib is not installed.
        InputError: there is nothing to draw, or the file cannot be written.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("Plots need matplotlib: pip install sparsify-fx[plot].") from error
    panels = [draw for draw, there in (
        (_rounds, any(len(item.rounds) > 1 for item in histories)),
        (_curves, any(item.measured for item in histories) or any(item.steps for item in histories)),
        (_exchanges, any(item.exchanged for item in histories)),
        (_layers, any(item.exchanged for item in histories)),
    ) if there]  # fmt: skip
    if not panels:
        raise InputError("The logs hold nothing to draw: nothing was trained yet.")
    with mpl.rc_context({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False,
                         "axes.spines.right": False}):  # fmt: skip
        figure: Figure = Figure(figsize=(6.2 * len(panels), 4.4), layout="constrained")
        for axis, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            draw(axis, histories)
        with writing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=130)


def _rounds(axis: Axes, histories: Sequence[History]) -> None:
    """Draw scores against density; bars are the deviation over seeds; every method has its own lines."""
    groups, lefts = _groups([item for item in histories if item.rounds]), set[float]()
    for index, (group, members) in enumerate(groups.items()):
        tickets, controls = defaultdict[float, list[float]](list), defaultdict[str, dict[float, list[float]]](dict)
        for item in members:
            for entry in item.rounds:
                if entry["round"]:
                    tickets[_left(entry)].append(entry["score"])
            for entry in item.controls:
                if entry["control"] != "dense":
                    controls[entry["control"]].setdefault(_left(entry), []).append(entry["score"])
        before, colour = (f"{group}: ", f"C{index % 10}") if len(groups) > 1 else ("", None)
        _line(axis, f"{before}ticket", tickets, marker="o", color=colour or _COLOURS["ticket"])
        for name, found in controls.items():
            _line(axis, before + name, found, marker="s", linestyle="--", color=colour or _COLOURS.get(name))
        dense = [item.rounds[0]["score"] for item in members if item.rounds and item.rounds[0]["round"] == 0]
        if dense:
            black = colour or _COLOURS["dense"]
            axis.axhline(statistics.mean(dense), label=f"{before}dense", color=black, linewidth=1, linestyle=":")
        lefts |= set(tickets)
    _log_scale(axis.xaxis, sorted(lefts))
    axis.invert_xaxis()
    axis.set_xlabel("weights left, %")
    axis.set_ylabel("score")
    axis.set_title(_title("Score by what is left", histories))
    axis.legend(frameon=False, fontsize=7 if len(groups) > 1 else None)


def _groups(histories: Sequence[History]) -> dict[str, list[History]]:
    """Return retrainings by what they are called; those of one method are its seeds."""
    methods = defaultdict[str, list[History]](list)
    for item in histories:
        methods[item.method].append(item)
    named: dict[str, list[History]] = {}
    for members in methods.values():
        letters = itertools.takewhile(
            lambda same: len(set(same)) == 1, zip(*(item.name for item in members), strict=False)
        )
        name = "".join(same[0] for same in letters).rstrip("-_0123456789")
        named[members[0].name if len(members) == 1 or name in ("", *named) else name] = members
    return named


def _left(entry: dict[str, Any]) -> float:
    """Return the percentage of weights that is left; of layers, which have no masks, that of non-zero parameters."""
    return round(100 * float(entry["density"] if entry["density"] < 1 else entry["nonzero_share"]), 3)


def _line(axis: Axes, name: str, found: dict[float, list[float]], **style: Any) -> None:
    xs = sorted(found, reverse=True)
    means = [statistics.mean(found[x]) for x in xs]
    spread = [statistics.stdev(found[x]) if len(found[x]) > 1 else 0.0 for x in xs]
    axis.errorbar(xs, means, yerr=spread if any(spread) else None, label=name,
                  markersize=3.5, capsize=2, linewidth=1.2, **style)  # fmt: skip


def _curves(axis: Axes, histories: Sequence[History]) -> None:
    """Draw scores on the way, or losses where no scores were measured; the rounds of a lottery from light to dark."""
    measured = any(item.measured for item in histories)
    for label, points, colour in _trainings(histories, measured=measured):
        axis.plot(*zip(*points, strict=True), label=label, color=colour, linewidth=1.2)
    axis.set_xlabel("step")
    axis.set_ylabel("score" if measured else "training loss")
    axis.set_title(_title("Learning curves", histories))
    if sum(not str(line.get_label()).startswith("_") for line in axis.get_lines()) <= _LABELS:
        axis.legend(frameon=False, fontsize=7, ncols=2)


def _trainings(histories: Sequence[History], *, measured: bool) -> Iterable[tuple[str, list[tuple[int, float]], Any]]:
    """Yield the curve of each training, the mean over retrainings of one method; controls of the last round only.

    Of several methods there is one curve each, for lotteries that of the last ticket.
    """
    import matplotlib as mpl

    found: dict[str, dict[int, list[float]]] = {}
    several = len({item.method for item in histories}) > 1
    for item in histories:
        last = max((entry["round"] for entry in item.rounds), default=0)
        for name, points in (item.measured if measured else item.steps).items():
            kind, _, number = name.rpartition("-")
            if kind in _COLOURS and int(number) != last:
                continue
            if several and item.rounds and name != f"round-{last}":
                continue
            for point in points:
                value = point["score"] if measured else point["loss"]
                found.setdefault(item.name if several else name, {}).setdefault(point["step"], []).append(value)
    rounds = [name for name in found if name.startswith("round-")]
    left = {f"round-{entry['round']}": _left(entry) for item in histories for entry in item.rounds}
    labelled = {rounds[round(k * (len(rounds) - 1) / (_ROUNDS - 1))] for k in range(_ROUNDS)} if rounds else set()
    shades = mpl.colormaps["viridis_r"]
    for name, values in found.items():
        kind, label = name.rpartition("-")[0], name.replace("-", " ")
        colour: Any = _COLOURS.get(kind) or _colours(histories).get(name)
        if name in rounds:
            colour = shades(0.1 + 0.9 * rounds.index(name) / max(1, len(rounds) - 1))
            label = "dense" if name == "round-0" else f"{label}: {left.get(name, 100):.3g}% left"
            label = label if name in labelled else f"_{label}"  # matplotlib leaves those out of the legend
        yield label, [(x, statistics.mean(ys)) for x, ys in sorted(values.items())], colour


def _exchanges(axis: Axes, histories: Sequence[History]) -> None:
    """Draw which share of the kept weights each update moved, and how many weights have been in use so far."""
    colours = _colours(histories)
    for item in histories:
        for points in item.exchanged.values():
            steps = [point["step"] for point in points]
            moved = [point["grown"] / max(1, point["kept"]) for point in points]
            axis.plot(steps, moved, linewidth=1.2, color=colours[item.name], label=item.name.replace("-", " "))
            used = [point["itop"] for point in points]
            axis.plot(steps, used, linewidth=1.2, linestyle="--", color=colours[item.name])
    axis.set_xlabel("step")
    axis.set_ylabel("share: moved by an update; dashed, used so far (ITOP)")
    axis.set_ylim(0, None)
    axis.set_title("How the masks change")
    if len(histories) > 1:
        axis.legend(frameon=False, fontsize=7)


def _layers(axis: Axes, histories: Sequence[History]) -> None:
    """Draw the density of each layer of one retraining, of that whose layers change most."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    known = {item.name: points for item in histories for points in item.exchanged.values()}
    name = max(known, key=lambda name: len({tuple(point["layers"].values()) for point in known[name]}))
    points = known[name]
    axis.set_title("Density by layer" + (f", {name}" if len(known) > 1 else ""))
    names = list(points[0]["layers"])
    for name in names:
        axis.plot([point["step"] for point in points], [point["layers"][name] for point in points], linewidth=1.2,
                  label=name.removesuffix(".weight") if len(names) <= _LABELS else None)  # fmt: skip
    axis.set_xlabel("step")
    axis.set_ylabel("density")
    shares = [value for point in points for value in point["layers"].values() if value > 0]
    if max(shares, default=1) > 5 * min(shares, default=1):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_locator(NullLocator())
    if len(names) <= _LABELS:
        axis.legend(frameon=False, fontsize=7)


def _colours(histories: Sequence[History]) -> dict[str, str]:
    """Return a colour for each retraining, the same one in every panel."""
    return {item.name: f"C{index % 10}" for index, item in enumerate(histories)}


def _log_scale(axis: Axis, values: Sequence[float]) -> None:
    """Make an axis logarithmic, with plain numbers at some of the values."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})  # type: ignore[attr-defined]
    chosen: list[float] = []
    for value in values:
        if value > 0 and (not chosen or value > 1.25 * chosen[-1]):
            chosen.append(value)
    axis.set_major_locator(FixedLocator(chosen))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))


def _title(text: str, histories: Sequence[History]) -> str:
    seeds = len(histories) if len({item.method for item in histories}) == 1 else 1
    return f"{text} (mean of {seeds} runs)" if seeds > 1 else text
