"""What `sparsify evaluate` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from sparsify.naming import first_names
from sparsify.report.quantities import count, size, time
from sparsify.report.speeds import masks_note

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_evaluation"]

_SIDE_BY_SIDE = 2  # models in a table besides the first; more do not fit into 80 columns
_LAYERS = 25  # in a table; more are in the JSON
_DEFINED = {"mCE": "mce", "relative mCE": "relative_mce"}  # if the first model is hurt by every corruption
_Row = Mapping[str, Any]
_Line = tuple[str, Callable[[_Row], str]]


def print_evaluation(console: Console, found: Mapping[str, Any]) -> None:
    """Print one table with a column for each model, one by corruption, one by layer, and what they rest on."""
    first, *others = found["models"]
    names = _columns([row["name"] for row in found["models"]])
    parts = [others[at : at + _SIDE_BY_SIDE] for at in range(0, len(others), _SIDE_BY_SIDE)] or [[]]
    for part in parts:
        shown = [first, *part]
        titles = [names[found["models"].index(row)] for row in shown]
        console.print(_table("", titles, list(_quantities(found)), shown))
        console.print()
        if first["robustness"]:
            console.print(_table("score by corruption", titles, list(_corruptions(found)), shown))
            console.print()
        if len(shown) > 1 and any(row["similarity"] and row["similarity"]["layers"] for row in part):
            console.print(_table("debiased CKA by layer", titles[1:], list(_layers(part)), part))
            console.print()
    masked = [name for name, row in zip(names, found["models"], strict=True) if row["masked"]]
    for note in filter(None, (*_notes(found), masks_note(masked))):
        console.print(note, style="dim", highlight=False, markup=False)


def _columns(names: Sequence[str]) -> list[str]:
    """Return the ends of paths, as long as they are different."""
    ends = [name.rstrip("/").rpartition("/")[2] for name in names]
    return ends if len(set(ends)) == len(ends) else list(names)


def _table(title: str, titles: Sequence[str], lines: Sequence[_Line], rows: Sequence[_Row]) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    table.add_column(title, overflow="fold")
    for name in titles:
        table.add_column(name, justify="right", overflow="fold")
    for label, cell in lines:
        table.add_row(label, *(cell(row) for row in rows))
    return table


def _quantities(found: Mapping[str, Any]) -> Iterator[_Line]:
    first = found["models"][0]
    score = first["score"]
    yield f"{score['name']} (n = {score['n']:,})", lambda row: _scored(row["score"])
    for name, shifted in first["shifted"].items():
        yield f"  {name} (n = {shifted['n']:,})", lambda row, name=name: _scored(row["shifted"][name])  # type: ignore[misc]
    if first["robustness"]:
        yield "  corrupted, mean", lambda row: _ranged(row["robustness"]["mean"], row["robustness"]["interval"], score)
        yield "  lost by corruption", lambda row: _value(row["robustness"]["drop"], score)
        for label, key in _DEFINED.items():
            if first["robustness"][key] is not None:
                yield f"  {label}", lambda row, key=key: _plain(row["robustness"][key])  # type: ignore[misc]
    if any(row["similarity"] and row["similarity"]["output"] for row in found["models"]):
        yield "CKA of outputs", lambda row: _output(row, "cka")
        yield "  debiased", lambda row: _output(row, "debiased")
    yield f"MACs, batch {found['macs_batch']}", lambda row: _beside(row, first, "macs", count)
    yield "parameters", lambda row: _beside(row, first, "parameters", count)
    yield "  not zero", lambda row: _beside(row, first, "nonzero", count)
    yield "weights in memory", lambda row: _beside(row, first, "bytes", size)
    yield "  values in a run", lambda row: _beside(row, first, "activation_bytes", size)
    if first["latency_ms"]:
        yield f"latency in PyTorch, batch {first['latency_ms']['batch']}", lambda row: time(row["latency_ms"]["median"])
        yield "  speed (99%)", _speed
        yield "energy / 1,000*", lambda row: f"{row['energy']['joules']:.3g} J"
        yield "CO2 / 1,000*", lambda row: f"{row['energy']['co2_grams']:.2g} g"
    yield "  arithmetic alone*", lambda row: f"{row['arithmetic_joules']:.2g} J"


def _corruptions(found: Mapping[str, Any]) -> Iterator[_Line]:
    score = found["models"][0]["score"]

    def cell(name: str) -> Callable[[_Row], str]:
        def of(row: _Row) -> str:
            own = row["robustness"]["corruptions"][name]
            return _ranged(own["mean"], own["interval"], score)

        return of

    for name in found["models"][0]["robustness"]["corruptions"]:
        yield name, cell(name)


def _layers(rows: Sequence[_Row]) -> Iterator[_Line]:
    known = [{layer["place"]: layer for layer in row["similarity"]["layers"]} for row in rows]
    places = list(dict.fromkeys(place for layers in known for place in layers))
    least = {place: min(_debiased(layers[place]) for layers in known if place in layers) for place in places}
    shown = set(sorted(places, key=least.__getitem__)[:_LAYERS])

    def cell(place: str) -> Callable[[_Row], str]:
        def of(row: _Row) -> str:
            found = next((layer for layer in row["similarity"]["layers"] if layer["place"] == place), None)
            return "gone" if found is None else _plain(found["debiased"]) + ("" if found["exact"] else "~")

        return of

    for place in places:
        if place in shown:
            yield place, cell(place)
    if len(places) > len(shown):
        yield f"and {len(places) - len(shown)} that are more alike", lambda row: ""


def _debiased(layer: Mapping[str, Any]) -> float:
    return 2.0 if layer["debiased"] is None else float(layer["debiased"])


def _notes(found: Mapping[str, Any]) -> Iterator[str]:
    first = found["models"][0]
    reasons: dict[str, list[str]] = {}
    for name, reason in found["left_out"].items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        yield f"Left out: {first_names(names)}, because {reason}."
    if first["robustness"]:
        levels = ", ".join(map(str, found["severities"]))
        yield (
            f"Corruptions are sparsify's own, of the families of CIFAR-10-C, at severities {levels}; mCE is the error "
            "on them over the first model's, relative mCE the rise of the error over its rise."
        )
        yield from _undefined(first)
        if found["pixels"]["derived"]:
            yield "The task says no pixel_range: the extremes of the data were taken for black and white."
    if any(row["similarity"] for row in found["models"]):
        yield "CKA is linear, with the first model; ~: a mean over batches, for there are many features."
    if first["energy"]:
        yield f"* Estimates, for 1,000 examples. Energy: {first['energy']['basis']}."
    yield "* Arithmetic: 4.6 pJ for each MAC (45 nm, Horowitz 2014), without moving data: a lower bound."


def _undefined(first: _Row) -> Iterator[str]:
    """Say why there is no mCE, or no relative one."""
    own, clean = first["robustness"], first["score"]
    if clean["name"] != "accuracy":
        yield f"There is no mCE, because the score is no accuracy but {clean['name']}."
        return
    words = ("makes no error under", "loses nothing by")
    for (label, key), best, how in zip(_DEFINED.items(), (1, clean["value"]), words, strict=True):
        if own[key] is None:
            tried = own["corruptions"].items()
            names = [name for name, each in tried if sum(best - score for score in each["scores"]) <= 0]
            yield f"There is no {label}, because the first model {how} {first_names(names)}."


def _scored(score: Mapping[str, Any]) -> str:
    return _ranged(score["value"], score["interval"], score)


def _ranged(value: float | None, interval: Sequence[float] | None, score: Mapping[str, Any]) -> str:
    if value is None:
        return ""
    ends = f" ({'-'.join(_value(end, score) for end in interval)})" if interval else ""
    return f"{_value(value, score)}{ends}"


def _value(value: float | None, score: Mapping[str, Any]) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f}" if score["name"] == "accuracy" else f"{value:.4g}"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _output(row: _Row, key: str) -> str:
    if row["similarity"] is None or row["similarity"]["output"] is None:
        return ""
    return _plain(row["similarity"]["output"][key])


def _beside(row: _Row, first: _Row, key: str, write: Callable[[float], str]) -> str:
    own, other = row[key], first[key]
    change = f" ({100 * (own - other) / other:+.0f}%)" if row is not first and other and own != other else ""
    return f"{write(own)}{change}"


def _speed(row: _Row) -> str:
    if row["speed"] is None:
        return ""
    return f"{row['speed']['ratio']:.2f}x ({row['speed']['low']:.2f}-{row['speed']['high']:.2f})"
