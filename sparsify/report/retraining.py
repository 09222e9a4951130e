"""A retraining in the terminal: rounds, controls, what was kept, when its ticket was found, what moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from sparsify.naming import first_names, plural
from sparsify.report.quantities import share

__all__ = ["print_retraining"]

_SHOWN = 6  # distances, the last ones
_LAYERS = 12  # that a terminal shows


def print_retraining(console: Console, record: Mapping[str, Any]) -> None:
    """Print what the record of a retraining tells."""
    if "scored" in record:
        for line in _kept(record):
            console.print(line, highlight=False, markup=False)
    if "rounds" in record:
        console.print(_rounds(record))
        for line in _alone(record) if len(record["rounds"]) == 1 else _verdict(record):
            console.print(line, highlight=False)
    for line in [
        *(_early_bird(record["early_bird"]) if "early_bird" in record else ()),
        *(_dimensions(record) if "dimensions" in record else ()),
        *(_frozen(record) if "freeze" in record else ()),
    ]:
        console.print(line, highlight=False)
    if "itop" in record:
        _moved(console, record)
    if "strong" in record:
        _scores(console, record["strong"])


def _moved(console: Console, record: Mapping[str, Any]) -> None:
    """Print how the masks moved."""
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


def _scores(console: Console, record: Mapping[str, Any]) -> None:
    """Print what was trained instead of weights, and what it keeps of every layer."""
    values = {name: ("no", "yes")[value] if isinstance(value, bool) else value
              for name, value in record["options"].items() if value is not None}  # fmt: skip
    console.print(f"{record['method']} with {', '.join(f'{k}={v}' for k, v in values.items())}", highlight=False)
    besides = record["trained_besides"]
    others = f"{plural(besides, 'other parameter')} besides" if besides else "nothing else"
    few = f"{record['kept']:,} of {record['weights']:,} weights are kept ({share(record['density'])})"
    console.print(f"{plural(record['scores'], 'score')} trained, and {others}; {few}", highlight=False)
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    for title in ("layer", "weights", "kept", "sparsity"):
        table.add_column(title, justify="left" if title == "layer" else "right", no_wrap=title != "layer")
    found = list(record["layers"].items())
    for name, item in found[:_LAYERS]:
        table.add_row(name, f"{item['weights']:,}", f"{item['kept']:,}", share(item["sparsity"]))
    console.print(table)
    if len(found) > _LAYERS:
        console.print(f"and {plural(len(found) - _LAYERS, 'more layer')}, in the report", style="dim", highlight=False)


def _early_bird(record: Mapping[str, Any]) -> list[str]:
    """Say when the ticket was found, and how far apart the masks of the last draws are."""
    where = f"at step {record['step']:,}, with mask {record['mask']} of {record['masks_in_all']}"
    largest = [f"{item['largest']:.3f}" for item in record["masks"] if item["largest"] is not None]
    shown = f"{'... ' if len(largest) > _SHOWN else ''}{', '.join(largest[-_SHOWN:])}"
    rule = f"largest distance among {record['window']} masks: {shown}; below {record['distance']:g} they agree"
    if not record["found"]:
        return ["no early-bird ticket: it was pruned at the end", rule]
    if not record["trained"]:
        return [f"early-bird ticket {where}: too late to be trained", rule]
    return [f"[green]early-bird ticket[/] {where}: {share(record['share'])} of all steps", rule]


def _frozen(record: Mapping[str, Any]) -> list[str]:
    """Say how few weights were trained, and what became of the others."""
    weights, trained, seed = record["weights"], record["trained"], record["seed_of_weights"]
    still = weights - trained
    few = f"{record['freeze']}: {trained:,} of {weights:,} weights are trained ({share(trained / max(1, weights))})"
    if record["freeze"] == "fish":
        return [f"{few}, chosen {plural(record['choices'], 'time')}; {record['moved']:,} are not where they were"]
    drawn = "as they were given" if seed is None else f"where the seed {seed} put them"
    if record["freeze"] == "zhou":
        zeros = record["zeros"]
        return [f"{few}; of the others {zeros:,} are at zero, and {still - zeros:,} stay {drawn}"]
    decayed = f", times {record['decayed_to']:.4g}, to which they decayed" if "decayed_to" in record else ""
    return [f"{few}; the other {still:,} stay {drawn}{decayed}"]


def _dimensions(record: Mapping[str, Any]) -> list[str]:
    """Say which dimensions were trained, and which of them was enough."""
    tried = ", ".join(f"{item['dimension']:,}: {item['score']:.4f}" for item in record["dimensions"])
    lines = [f"scores by trained dimensions, of {record['parameters']:,}: {tried}"]
    if "d90" in record:
        bar = f"{record['reach']:g} of the {record['baseline']:.4f} of all parameters"
        found = record["d90"]
        text = f"intrinsic dimension: {found:,}, the least with {bar}" if found else f"none reaches {bar}"
        lines.append(f"{text}; untrained it has {record['start']:.4f}")
    return lines


def _rounds(record: Mapping[str, Any]) -> Table:
    """Return one row for each network that was trained."""
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    curves = any(item["first_steps_to_best"] is not None for item in record["rounds"])
    several = len(record["rounds"]) > 1
    head = ["round"] if several else []
    for title in (*head, "network", "density", "non-zeros", "MACs", "score", *(["best at step"] if curves else [])):
        table.add_column(title, justify="left" if title == "network" else "right", no_wrap=True)
    winning = set(record.get("winning", ()))
    for item in _in_order(record):
        wins = item["round"] in winning and "control" not in item
        cells = [
            *([str(item["round"])] if several else []),
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


def _kept(record: Mapping[str, Any]) -> list[str]:
    """Say what pruning at initialization left, and of which layers most and least."""
    rounds = f" in {record['scored']} rounds" if record["scored"] > 1 else ""
    how = f"{record['criterion']}{rounds} before the training"
    if record["unit"] == "layers":
        return [f"{how}: {plural(len(record['removed']), 'layer')} removed: {first_names(record['removed'])}"]
    removed = [f"{name} {size}" for name, size in record["groups"].items()]
    lines = [f"{how}: {first_names(removed)}"] if removed else []
    if not record["layers"]:
        return lines
    kept, weights = record["kept"], record["masked_weights"]
    shares = {name: item["kept"] / item["weights"] for name, item in record["layers"].items()}
    text = f"{kept:,} of {weights:,} weights in {plural(len(shares), 'layer')} are kept ({share(kept / weights)})"
    most, least = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
    high, low = share(shares[most]), share(shares[least])
    ends = f"; most of {most} ({high}), least of {least} ({low})"
    lines.append((f"{how}: " if not lines else "") + text + (ends if high != low else ""))
    if record["wanted"] not in (None, kept):
        lines.append(f"{record['wanted']:,} were asked for: tiles are kept as a whole, and masks that there were stay")
    if record["empty"]:
        lines.append(f"nothing is left of {first_names(record['empty'])}: no signal passes there")
    return lines


def _alone(record: Mapping[str, Any]) -> list[str]:
    """Say how the only ticket compares."""
    lines, margin = list[str](), f"at most {record.get('margin', 0):g} below"
    if "winning" in record:
        below = f"more than {record['margin']:g} below"
        loses = f"the ticket does not win: it is {below}"
        wins = f"[green]the ticket wins[/]: it is {margin}" if record["winning"] else loses
        lines.append(f"{wins} the {record['start_score']:.4f} of {_network(record)}")
    if "controls_as_good" in record:
        good = ", ".join(item["control"] for item in record["controls_as_good"])
        none = f"no control is as good: none is {margin} it"
        lines.append(f"controls that are as good as the ticket: {good}" if good else none)
    return lines


def _verdict(record: Mapping[str, Any]) -> list[str]:
    if "winning" not in record:
        return _as_good(record)
    start = _network(record)
    bar = f"at most {record['margin']:g} below the {record['start_score']:.4f} of {start}"
    winning = record["winning"]
    lines = [f"[green]winning tickets[/] ({bar}): {_numbers(winning)}" if winning else f"no ticket wins: none is {bar}"]
    if winning and "as_fast" in record:
        fast, steps = record["as_fast"], record["start_steps_to_best"]
        few = f"at their best after at most as many steps as {start} ({steps})"
        lines.append(f"of them {few}: {_numbers(fast)}" if fast else f"none of them is {few}")
    lines += _as_good(record)
    unknown = [number for number in winning if number not in record.get("compared", ())]
    if unknown:
        how = "controls_at=all trains them" if "compared" in record else "controls= names some"
        lines.append(f"no control was trained for {_numbers(unknown)}: {how}")
    return lines


def _as_good(record: Mapping[str, Any]) -> list[str]:
    found = [f"{item['control']} of round {item['round']}" for item in record.get("controls_as_good", ())]
    return [f"controls that are as good as the ticket of their round: {', '.join(found)}"] if found else []


def _network(record: Mapping[str, Any]) -> str:
    return "the dense network" if record["start"] == "dense" else "the start"


def _numbers(rounds: Sequence[int]) -> str:
    return f"round{'s' if len(rounds) > 1 else ''} {', '.join(map(str, rounds))}"
