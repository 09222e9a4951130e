"""The page of a sweep: trade-offs with their fronts, tables, what failed, and the recipe, in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsify.atomic import writing
from sparsify.naming import plural
from sparsify.report.curve import NAMES, drawing
from sparsify.report.rendering import render
from sparsify.report.sweep import name, one_by_one, removed_macs, together
from sparsify.report.tradeoff import Point
from sparsify.sweeps.results import DENSE, Measured, Row

__all__ = ["write_sweep_page"]

_SHARES = {"nonzero_share": "nonzero", "macs_share": "macs"}
_FRONTS = {"nonzero_share": "non-zeros", "macs_share": "MACs"}
_GOLDEN = 137.508  # degrees between two colours


def write_sweep_page(
    path: Path, names: tuple[str, str], recipe: str, made: Sequence[Row], found: Sequence[Measured]
) -> None:
    """Write the page.

    Args:
        path: of the file, in the folder of the sweep, to whose trials it leads.
        names: of the recipe, and the command that makes the page again.
        recipe: its text.
        made: the rows.
        found: the trials.

    Raises:
        InputError: the file cannot be written.
    """
    known = {one.trial.key: one for one in found}
    methods = dict.fromkeys(row.method for row in made if row.method != DENSE)
    hues = {method: round(40 + index * _GOLDEN) % 360 for index, method in enumerate(methods)}
    own = {model: [row for row in made if row.model == model] for model in dict.fromkeys(row.model for row in made)}
    reports = [one.report for one in found if one.report is not None]
    with writing(path) as temporary:
        temporary.write_text(
            render(
                "sweep.html",
                name=names[0],
                headline=_headline(found),
                failed=[_failed(one) for one in found if one.error is not None],
                models=[_model(model, members, hues) for model, members in own.items()],
                trials={row: [_trial(known[key]) for key in row.trials] for row in made},
                recipe=recipe.strip(),
                command=names[1],
                together=[*filter(None, [together(found)]), *one_by_one(found)],
                environment=reports[0]["environment"] if reports else None,
            ),
            encoding="utf-8",
        )


def _headline(found: Sequence[Measured]) -> str:
    done = sum(one.report is not None for one in found)
    cells = {one.trial.cell for one in found}
    models, methods = len({cell.model for cell in cells}), len({cell.method for cell in cells})
    levels = len({cell.sparsity for cell in cells} - {None})
    seeds = len({one.trial.seed for one in found})
    parts = [plural(models, "model"), plural(methods, "method")]
    parts += [f"{levels} {'sparsity' if levels == 1 else 'sparsities'}"] if levels else []
    parts += [plural(seeds, "seed")]
    state = plural(len(found), "trial") if done == len(found) else f"{done} of {plural(len(found), 'trial')} done"
    return f"{state}: {', '.join(parts)}"


def _model(model: str, own: Sequence[Row], hues: Mapping[str, int]) -> dict[str, Any]:
    macs = removed_macs(own)
    scored = [row for row in own if row.score is not None]
    label = next((row.score_name for row in scored if row.score_name), "score")
    quantities = [share for share in _SHARES if macs or share != "macs_share"] if len(scored) > 1 else []
    keys: list[dict[str, Any]] = [{"kind": "dense", "name": "before", "hue": None}]
    keys += [{"kind": "method", "name": method, "hue": hues[method]}
             for method in dict.fromkeys(row.method for row in scored if row.method != DENSE)]  # fmt: skip
    return {
        "name": model, "rows": [(row, _front(row, macs=macs)) for row in own], "score_name": label, "legend": keys,
        "curves": [_curve(scored, share, hues, label) for share in quantities],
    }  # fmt: skip


def _front(row: Row, *, macs: bool) -> str:
    """Say on which fronts a row is; that of the MACs is none where no row removed any."""
    return ", ".join(text for share, text in _FRONTS.items() if share in row.front and (macs or share != "macs_share"))


def _curve(scored: Sequence[Row], share: str, hues: Mapping[str, int], label: str) -> dict[str, Any]:
    points = [_point(row, share, hues) for row in scored]
    front = sorted((point for point in points if point.front), key=lambda point: point.left)
    return drawing(points, front, NAMES[_SHARES[share]], label)


def _point(row: Row, share: str, hues: Mapping[str, int]) -> Point:
    left, score = getattr(row, share), row.score
    assert left is not None
    assert score is not None
    if row.method == DENSE:
        return Point("dense", "before", left, score, front=share in row.front)
    level = "" if row.sparsity is None else f" at {row.sparsity:g}"
    return Point("method", row.method + level, left, score, row.interval, hues[row.method], share in row.front)


def _trial(one: Measured) -> dict[str, Any]:
    file = {"done": "report.json", "failed": "error.txt"}.get(one.state)
    link = None if file is None else f"trials/{one.trial.key}/{file}"
    title = one.error or (f"{one.report['score']:.4f}: {one.trial.command}" if one.report is not None else "")
    return {"seed": one.trial.seed, "state": one.state, "link": link, "title": title}


def _failed(one: Measured) -> dict[str, Any]:
    return {"name": name(one), "link": f"trials/{one.trial.key}/error.txt", "error": one.error}
