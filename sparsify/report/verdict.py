"""The verdict on a run, for who has ten seconds: what it bought, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sparsify.report.quantities import change, count, share, size, time, time_range

__all__ = ["Card", "cards", "headline"]

Mood = Literal["good", "bad", "even"]
_SAME = 0.005  # of a size: less is no difference to speak of


@dataclass(frozen=True)
class Card:
    """One quantity before and after.

    Attributes:
        label: what it is.
        before: how much it was.
        after: how much it is.
        change: between them.
        mood: whether that is what one wants.
        note: what a reader must know of it.
    """

    label: str
    before: str
    after: str
    change: str
    mood: Mood
    note: str = ""


def headline(report: Mapping[str, Any]) -> str:
    """Return the verdict in one sentence, such as `2.34x as fast, file 46% smaller, accuracy 2.9 points lower`."""
    parts = [_speed_in_words(report), *_sizes_in_words(report), _score_in_words(report)]
    text = ", ".join(filter(None, parts)) or "nothing changed"
    return f"{text[0].upper()}{text[1:]}"


def cards(report: Mapping[str, Any]) -> list[Card]:
    """Return every quantity of the verdict."""
    before, after = report["before"], report["after"]
    found = _score(report) + _latency(report) + _file(report)
    names = [("parameters", "parameters", ""), ("non-zeros", "nonzero", "")]
    if any(side["trainable"] < side["nonzero"] for side in (before, after)):
        names.append(("trainable", "trainable", "the others are frozen at what they are"))
    names.append(("MACs", "macs", f"multiply-accumulates at batch {report['macs_batch']}"))
    for label, key, note in names:
        found.append(_amount(label, (before[key], after[key]), count, note))
    note = "with masks and what is frozen, which files need not hold" if after["bytes"] > before["bytes"] else ""
    found.append(_amount("in memory", (before["bytes"], after["bytes"]), size, note))
    return found


def _amount(label: str, amounts: tuple[float, float], text: Callable[[float], str], note: str = "") -> Card:
    before, after = amounts
    ratio = after / before if before else 1.0
    mood: Mood = "good" if ratio < 1 - _SAME else "bad" if ratio > 1 + _SAME else "even"
    return Card(label, text(before), text(after), change(before, after) if before != after else "the same", mood, note)


def _onnx(report: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the bytes of the ONNX file before and after."""
    latency = report.get("latency")
    return (latency["dense_bytes"], latency["bytes"]) if latency else None


def _file(report: Mapping[str, Any]) -> list[Card]:
    sizes = _onnx(report)
    return [] if sizes is None else [_amount("ONNX file", sizes, size)]


def _latency(report: Mapping[str, Any]) -> list[Card]:
    latency = report.get("latency")
    if not latency:
        return []
    one, two = latency["before"], latency["after"]
    threads = "1 thread" if one["threads"] == 1 else f"{one['threads']} threads"
    spread = " and ".join(time_range(side["low"], side["high"]) for side in (one, two))
    ratio, verdict = _ratio(latency)
    low, high = latency["speed"]["low"], latency["speed"]["high"]
    note = (
        f"onnxruntime, {threads}, batch {one['batch']}, both in this run; medians, quartiles {spread}. "
        f"The speed is that of runs in turns, 99% interval {low:.2f}x to {high:.2f}x"
    )
    mood: Mood = {"faster": "good", "slower": "bad"}.get(verdict, "even")  # type: ignore[assignment]
    text = "within noise" if verdict == "within noise" else f"{ratio:.2f}x"
    return [Card("latency", time(one["median"]), time(two["median"]), text, mood, note)]


def _ratio(latency: Mapping[str, Any]) -> tuple[float, str]:
    speed = latency["speed"]
    return speed["ratio"], speed["verdict"]


def _score(report: Mapping[str, Any]) -> list[Card]:
    scores = report.get("scores")
    if not scores:
        return []
    one, two = scores["before"], scores["after"]
    moved = two["value"] - one["value"]
    apart = _apart(one, two)
    mood: Mood = "even" if not apart else "good" if moved > 0 else "bad"
    note = ""
    if one["interval"]:
        low_high = " and ".join("{:.3f} to {:.3f}".format(*side["interval"]) for side in (one, two))
        overlap = "do not overlap" if apart else "overlap"
        note = f"n = {two['n']}; 95% intervals {low_high}, which {overlap}"
    return [Card(one["name"], f"{one['value']:.4f}", f"{two['value']:.4f}", f"{moved:+.4f}", mood, note)]


def _apart(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    """Whether two scores differ by more than their intervals say is chance; without intervals whether they differ."""
    if not one["interval"] or not two["interval"]:
        return bool(one["value"] != two["value"])
    return bool(one["interval"][1] < two["interval"][0] or two["interval"][1] < one["interval"][0])


def _speed_in_words(report: Mapping[str, Any]) -> str:
    latency = report.get("latency")
    if not latency:
        return ""
    ratio, verdict = _ratio(latency)
    return "as fast as before, within noise" if verdict == "within noise" else f"{ratio:.2f}x as fast"


def _sizes_in_words(report: Mapping[str, Any]) -> list[str]:
    """Say how much smaller the file is, or the model where there is no file; what is zero; what is still trained."""
    before, after, sizes = report["before"], report["after"], _onnx(report)
    found = []
    if sizes is None:
        for key, name in (("parameters", "parameters"), ("macs", "MACs")):
            part = 1 - after[key] / max(1, before[key])
            found += [f"{part:.0%} fewer {name}"] * (part > _SAME)
    elif abs(part := 1 - sizes[1] / sizes[0]) < _SAME:
        found.append("file as large as before")
    else:
        found.append(f"file {abs(part):.0%} {'smaller' if part > 0 else 'larger'}")
    zeros = 1 - after["nonzero"] / max(1, after["parameters"])
    if zeros > 1 - before["nonzero"] / max(1, before["parameters"]) + _SAME:
        found.append(f"{share(zeros)} of the weights are zeros")
    if after["trainable"] < after["nonzero"] and after["trainable"] < before["trainable"]:
        found.append(f"{share(after['trainable'] / max(1, after['parameters']))} of the weights are trained")
    return found


def _score_in_words(report: Mapping[str, Any]) -> str:
    scores = report.get("scores")
    if not scores:
        return ""
    one, two = scores["before"], scores["after"]
    moved = two["value"] - one["value"]
    accuracy = one["name"] == "accuracy"
    amount = f"{100 * abs(moved):.1f} points" if accuracy else f"{abs(moved):.4g}"
    text = f"{one['name']} {amount} {'higher' if moved > 0 else 'lower'}" if moved else f"{one['name']} as before"
    return f"{text} (95% intervals overlap)" if moved and one["interval"] and not _apart(one, two) else text
