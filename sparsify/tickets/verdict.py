"""The verdict: which tickets win, which controls do as well, and which tickets learn as fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["verdict"]

Entries = Sequence[Mapping[str, Any]]


def verdict(rounds: Entries, controls: Entries, margin: float) -> dict[str, Any]:
    """Judge the networks of a lottery by that from which they are pruned, if it was trained, and by their controls.

    A ticket wins if its score is at most `margin` below that of the start; a control is as good as the ticket of its
    round by the same rule.

    Args:
        rounds: round 0, if it was trained, is the start.
        controls: one called dense is the start, too.
        margin: of scores.

    Returns:
        `margin`; with the start `start` (what it is called), `start_score` and `winning` (rounds); with controls
        `controls_as_good` and `compared` (the rounds in which some were trained); with the start and curves `as_fast`,
        the winning rounds that are at their best after at most as many steps as the start, and `start_steps_to_best`.
        Nothing if there is neither the start nor a control.
    """
    start = next((item for item in (*rounds, *controls) if not item["round"] or item.get("control") == "dense"), None)
    tickets = {item["round"]: item for item in rounds if item["round"]}
    found: dict[str, Any] = {}
    if start is not None:
        winning = [number for number, item in tickets.items() if item["score"] >= start["score"] - margin]
        found.update(start=start["network"], start_score=start["score"], margin=margin, winning=winning)
    others = [item for item in controls if item["control"] != "dense"]
    if others:
        found.update(margin=margin, compared=sorted({item["round"] for item in others}))
        found["controls_as_good"] = [
            {"round": item["round"], "control": item["control"]}
            for item in others
            if item["score"] >= tickets[item["round"]]["score"] - margin
        ]
    if start is not None and (steps := start["first_steps_to_best"]) is not None:
        found["start_steps_to_best"] = steps
        found["as_fast"] = [number for number in winning if tickets[number]["first_steps_to_best"] <= steps]
    return found
