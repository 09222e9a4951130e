"""Plots of retrainings: accuracy against density, learning curves, how masks change, how dense layers are."""

from __future__ import annotations

import itertools
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sparsify.atomic import writing
from sparsify.errors import InputError, UsageError
from sparsify.registry import entries
from sparsify.report.history import History
from sparsify.report.mask_plots import draw_exchanges, draw_layers
from sparsify.report.plot_axes import (
    CONTROLS,
    DENSE,
    NETWORKS,
    PANEL,
    TICKET,
    density_ticks,
    few_points,
    legend_beside,
    step_axis,
)
from sparsify.report.ticket_plots import draw_dimensions, draw_distances, draw_networks
from sparsify.spec import parse_spec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot"]

Entry: TypeAlias = dict[str, Any]

_TURNS = re.compile(r"(?<=^fish) \d+$")  # trainings one behind the other, which are one
_LABELS = 20  # more are not readable
_ROUNDS = 6  # labels of a lottery's rounds


def plot(histories: Sequence[History], path: str | Path) -> None:
    """Draw what some retrainings did, as a PNG; several of the same method are taken as its seeds.

    There is a panel for what there is: accuracy against density with controls, learning curves, the share of weights
    that updates moved and the ITOP rate, densities by layer; distances of masks, scores by dimension.

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
        (draw_networks, any(item.controls for item in histories) and all(len(item.rounds) < 2 for item in histories)),
        (lambda axis, items: draw_distances(axis, items, _colours(items)), any(item.masks for item in histories)),
        (lambda axis, items: draw_dimensions(axis, items, _colours(items)), any(item.dimensions for item in histories)),
        (_curves, any(item.measured for item in histories) or any(item.steps for item in histories)),
        (lambda axis, items: draw_exchanges(axis, items, _colours(items)), any(item.exchanged for item in histories)),
        (draw_layers, any(item.exchanged for item in histories)),
    ) if there]  # fmt: skip
    if not panels:
        raise InputError("The logs hold nothing to draw: nothing was trained yet.")
    with mpl.rc_context({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False,
                         "axes.spines.right": False}):  # fmt: skip
        figure: Figure = Figure(figsize=(PANEL[0] * len(panels), PANEL[1]), layout="constrained")
        for axis, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            draw(axis, histories)
        with writing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=130)


def _rounds(axis: Axes, histories: Sequence[History]) -> None:
    """Draw scores against density; every method has its own colour, every control its own marks and dashes."""
    groups, lefts = _groups([item for item in histories if item.rounds]), set[float]()
    for index, (group, members) in enumerate(groups.items()):
        before, colour = (f"{group}: ", f"C{index % 10}") if len(groups) > 1 else ("", None)
        tickets = _by_density(entry for item in members for entry in item.rounds if entry["round"])
        _line(axis, f"{before}ticket", tickets, marker="o", color=colour or TICKET)
        controls = defaultdict[str, list[Entry]](list)
        for entry in (entry for item in members for entry in item.controls):
            controls[entry["control"]].append(entry)
        starts = [entry for item in members for entry in item.rounds[:1] if not entry["round"]]
        starts += controls.pop("dense", [])
        for name, found in controls.items():
            style = {**CONTROLS[name], **({"color": colour} if colour else {})}
            _line(axis, before + name, _by_density(found), **style)
        if starts:
            score = statistics.mean(entry["score"] for entry in starts)
            label = f"{before}{starts[0].get('network', 'dense')}"
            axis.axhline(score, label=label, color=colour or DENSE, linewidth=1, linestyle=":")
        lefts |= set(tickets)
    density_ticks(axis, sorted(lefts))
    axis.set_xlabel(f"weights left, %{_bars(list(groups.values()))}")
    axis.set_ylabel("score")
    axis.set_title(_title("Score by what is left", histories))
    legend_beside(axis)


def _by_density(found: Iterable[Entry]) -> dict[float, list[Entry]]:
    """Return the entries of each round by how much is left there; a small dense network meets that only nearly."""
    rounds = defaultdict[int, list[Entry]](list)
    for entry in found:
        rounds[entry["round"]].append(entry)
    return {statistics.mean(map(_left, members)): members for members in rounds.values()}


def _bars(groups: Sequence[Sequence[History]]) -> str:
    """Say what the bars mean: the deviation over seeds, of a single run the interval of the score."""
    single = any(len(members) == 1 and any(entry.get("interval") for entry in members[0].rounds) for members in groups)
    kinds = (["deviation over runs"] if any(len(members) > 1 for members in groups) else []) + (
        ["95% interval of a single run's score"] if single else []
    )
    return f" (bars: {'; '.join(kinds)})" if kinds else ""


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
        named[", ".join(item.name for item in members) if len(members) == 1 or name in ("", *named) else name] = members
    return named


def _left(entry: dict[str, Any]) -> float:
    """Return the percentage of weights that is left; of layers, which have no masks, that of non-zero parameters."""
    return round(100 * float(entry["density"] if entry["density"] < 1 else entry["nonzero_share"]), 3)


def _line(axis: Axes, name: str, found: dict[float, list[Entry]], *, color: Any, **style: Any) -> None:
    """Draw means with bars."""
    xs = sorted(found, reverse=True)
    means = [statistics.mean(entry["score"] for entry in found[x]) for x in xs]
    reach = [_reach(found[x], mean) for x, mean in zip(xs, means, strict=True)]
    bars = [[low for low, _ in reach], [high for _, high in reach]]
    axis.errorbar(xs, means, yerr=bars if any(map(any, bars)) else None, label=name, color=color,
                  markersize=4, capsize=2, linewidth=1.2, elinewidth=0.7, **style)  # fmt: skip


def _reach(found: Sequence[Entry], mean: float) -> tuple[float, float]:
    """Return how far the bars reach down and up from a mean."""
    if len(found) > 1:
        deviation = statistics.stdev(entry["score"] for entry in found)
        return deviation, deviation
    low, high = found[0].get("interval") or (mean, mean)
    return max(0.0, mean - low), max(0.0, high - mean)


def _curves(axis: Axes, histories: Sequence[History]) -> None:
    """Draw scores on the way, or losses where no scores were measured; the rounds of a lottery from light to dark."""
    measured = any(item.measured for item in histories)
    for label, points, style in _trainings(histories, measured=measured):
        marks = {**few_points(len(points)), "markevery": max(1, len(points) // 10)}
        axis.plot(*zip(*points, strict=True), label=label, linewidth=1.2, **{**marks, **style})
    step_axis(axis)
    axis.set_ylabel("score" if measured else "training loss")
    axis.set_title(_title("Learning curves", histories))
    if sum(not str(line.get_label()).startswith("_") for line in axis.get_lines()) <= _LABELS:
        legend_beside(axis)


def _trainings(
    histories: Sequence[History], *, measured: bool
) -> Iterable[tuple[str, list[tuple[int, float]], dict[str, Any]]]:
    """Yield the curve of each training, the mean over retrainings of one method, and its style.

    Of controls there are those of the last round. Of several methods there is one curve each, for lotteries that of the
    last ticket.
    """
    import matplotlib as mpl

    found: dict[str, dict[int, list[float]]] = {}
    groups = _groups(histories)
    several = len(groups) > 1
    for group, item in ((group, item) for group, members in groups.items() for item in members):
        last = max((entry["round"] for entry in item.rounds), default=0)
        for name, points in (item.measured if measured else item.steps).items():
            kind, _, number = name.rpartition("-")
            if kind in (*CONTROLS, "dense") and int(number) != last:
                continue
            if several and item.rounds and name != f"round-{last}":
                continue
            whole = group if several else _TURNS.sub("", name)
            for point in points:
                value = point["score"] if measured else point["loss"]
                found.setdefault(whole, {}).setdefault(point["step"], []).append(value)
    rounds = [name for name in found if name.startswith("round-")]
    known = {f"round-{entry['round']}": entry for item in histories for entry in item.rounds}
    labelled = {rounds[round(k * (len(rounds) - 1) / (_ROUNDS - 1))] for k in range(_ROUNDS)} if rounds else set()
    shades = mpl.colormaps["viridis_r"]
    for name, values in found.items():
        kind, _, number = name.rpartition("-")
        style: dict[str, Any] = {"color": _colours(histories)[groups[name][0].name] if several else None}
        label = name if several else _called(histories[0], name)
        if name in NETWORKS and not several:
            style["color"] = NETWORKS[name]
        elif kind in CONTROLS:
            style, label = CONTROLS[kind], f"{kind}, round {number}"
        elif name in rounds:
            style = {"color": shades(0.1 + 0.9 * rounds.index(name) / max(1, len(rounds) - 1))}
            left = f"round {number}: {_left(known[name]):.3g}% left" if name in known else f"round {number}"
            label = known.get(name, {}).get("network", "dense") if name == "round-0" else left
            label = label if name in labelled else f"_{label}"  # matplotlib leaves those out of the legend
        yield label, [(x, statistics.mean(ys)) for x, ys in sorted(values.items())], style


def _called(history: History, training: str) -> str:
    """Return what the user called a training: that of a method of many by its own name, `dst:rigl`."""
    name, options = parse_spec(history.method)
    if name != training or name not in ("dst", "strong"):
        return training
    default = next(option.default for option in entries("sparsify.methods")[name].options if option.name == "method")
    return f"{name}:{options.get('method', default)}"


def _colours(histories: Sequence[History]) -> dict[str, str]:
    """Return a colour for each retraining, the same one in every panel; where methods are compared, for each method."""
    groups = list(_groups(histories).values())
    parts = [[item] for item in histories] if len(groups) == 1 else groups
    return {item.name: f"C{index % 10}" for index, members in enumerate(parts) for item in members}


def _title(text: str, histories: Sequence[History]) -> str:
    seeds = len(histories) if len({item.method for item in histories}) == 1 else 1
    return f"{text} (mean of {seeds} runs)" if seeds > 1 else text
