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
            for line in _verdict(record):
                console.print(line, highlight=False)
    if "itop" in record:
        used = {**record["rule"]}
        values = ", ".join(f"{name}={value}" for name, value in used.items() if name != "method")
        console.print(f"{used['method']}{f' with {values}' if values else ''}", highlight=False)
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
            item["network"],
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


def _verdict(record: Mapping[str, Any]) -> list[str]:
    start = _network(record)
    bar = f"at most {record['margin']:g} below the {record['start_score']:.4f} of {start}"
    winning = record["winning"]
    lines = [f"[green]winning tickets[/] ({bar}): {_numbers(winning)}" if winning else f"no ticket wins: none is {bar}"]
    if winning and "as_fast" in record:
        fast, steps = record["as_fast"], record["start_steps_to_best"]
        few = f"at their best after at most as many steps as {start} ({steps})"
        lines.append(f"of them {few}: {_numbers(fast)}" if fast else f"none of them is {few}")
    as_good = [f"{item['control']} of round {item['round']}" for item in record.get("controls_as_good", ())]
    if as_good:
        lines.append(f"controls that are as good as the ticket of their round: {', '.join(as_good)}")
    unknown = [number for number in winning if number not in record.get("compared", ())]
    if unknown:
        how = "controls_at=all trains them" if "compared" in record else "controls= names some"
        lines.append(f"no control was trained for {_numbers(unknown)}: {how}")
    return lines


def _network(record: Mapping[str, Any]) -> str:
    return "the dense network" if record["start"] == "dense" else "the start"


def _numbers(rounds: Sequence[int]) -> str:
    return f"round{'s' if len(rounds) > 1 else ''} {', '.join(map(str, rounds))}"
