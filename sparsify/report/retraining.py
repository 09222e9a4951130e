"""A retraining in the terminal: its rounds beside the controls, or how often its weights moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from sparsify.naming import plural
from sparsify.report.quantities import share

__all__ = ["print_retraining"]


def print_retraining(console: Console, record: Mapping[str, Any]) -> None:
    """Print what the record of a retraining tells."""
    if "rounds" in record:
        console.print(_rounds(record))
        if "winning" in record:
            console.print(_verdict(record), highlight=False)
    if "itop" in record:
        moved = f"the masks changed {plural(record['exchanges'], 'time')}"
        console.print(f"{moved}; {share(record['itop'])} of the weights were in use at some time", highlight=False)
        few = f"{record['kept']:,} of {record['masked_weights']:,} weights are kept"
        if record["wanted"] not in (None, record["kept"]):
            console.print(f"{few}, and {record['wanted']:,} were asked for: every row keeps a whole number of them")
        if record["dense"]:
            console.print(f"this training was {record['dense']}: it cost what a dense one costs, or nearly")


def _rounds(record: Mapping[str, Any]) -> Table:
    """Return one row for each network that was trained."""
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    curves = any(item["first_steps_to_best"] is not None for item in record["rounds"])
    for title in ("round", "network", "density", "non-zeros", "MACs", "score", *(["best at step"] if curves else [])):
        table.add_column(title, justify="left" if title == "network" else "right", no_wrap=True)
    winning = set(record.get("winning", ()))
    for item in _in_order(record):
        wins = item["round"] in winning and "control" not in item
        cells = [
            str(item["round"]),
            item.get("control", "ticket" if item["round"] else "dense" if item["density"] == 1 else "start"),
            share(item["density"]),
            share(item["nonzero_share"]),
            share(item["macs_share"]),
            f"{item['score']:.4f}",
            *([str(item["first_steps_to_best"])] if curves else []),
        ]
        table.add_row(*cells, style="green" if wins else "dim" if "control" in item else "")
    return table


def _in_order(record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return sorted([*record["rounds"], *record.get("controls", ())], key=lambda item: int(item["round"]))


def _verdict(record: Mapping[str, Any]) -> str:
    bar = f"at most {record['margin']:g} below the {record['dense_score']:.4f} of the dense network"
    winning = record["winning"]
    if not winning:
        return f"no ticket wins: none is {bar}"
    as_good = [f"{item['control']} of round {item['round']}" for item in record.get("controls_as_good", ())]
    but = f"; as good or better: {', '.join(as_good)}" if as_good else ""
    return f"[green]winning tickets[/] ({bar}): rounds {', '.join(map(str, winning))}{but}"
