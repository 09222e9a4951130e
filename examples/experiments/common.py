"""What the experiments share: networks, runs over seeds, tables, and claims that are judged. It does nothing alone."""

from __future__ import annotations

import argparse
import csv
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import sparsify as sp
from sparsify.program import Program
from sparsify.tasks.digits import Digits

_START = time.perf_counter()

__all__ = ["Claim", "arguments", "draw", "lenet", "mean", "said", "spread", "write_table"]


def lenet(seed: int, classes: int = 10) -> Program:
    """Return a perceptron 64-300-100-10, LeNet-300-100 for the digits, with the weights of a seed."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, classes)
    )
    args, _ = Digits().example()
    return sp.capture(model, args)


def arguments(text: str, seeds: int) -> argparse.Namespace:
    """Read `--seeds` and `--out`; two processes of one thread each would be faster than one of two."""
    parser = argparse.ArgumentParser(description=text.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=seeds, help=f"how many, {seeds} if not said")
    parser.add_argument("--out", type=Path, default=Path("experiments-out"), help="the folder of tables and plots")
    found = parser.parse_args()
    found.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # matrices this small are slower on two
    return found


def mean(values: Sequence[float]) -> float:
    """Return the mean."""
    return statistics.mean(values)


def spread(values: Sequence[float]) -> float:
    """Return the deviation over seeds, zero for a single one."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def said(values: Sequence[float]) -> str:
    """Write scores in percent: `97.5 ± 0.4`; one alone has no deviation."""
    return f"{100 * mean(values):.1f}" + (f" ± {100 * spread(values):.1f}" if len(values) > 1 else "")


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"wrote {path}")


def draw(
    path: Path,
    marks: Mapping[str, Sequence[Sequence[float]]],
    dense: Sequence[float] | Mapping[str, Sequence[float]],
    ticks: Sequence[str],
) -> None:
    """Draw the scores of all seeds, marks of one colour for each name, with their deviation; dense ones are lines."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axis = figure.subplots()
    lines = dense if isinstance(dense, Mapping) else {"dense": dense}
    seeds = len(next(iter(lines.values())))
    for index, (name, values) in enumerate(marks.items()):
        places = [place + 0.12 * (index - (len(marks) - 1) / 2) for place in range(len(ticks))]
        bars = [spread(scores) for scores in values] if seeds > 1 else None
        axis.errorbar(places, [mean(v) for v in values], yerr=bars, label=name, fmt="o", markersize=5, capsize=3)
    for (name, scores), style in zip(lines.items(), (":", "--", "-."), strict=False):
        axis.axhline(mean(scores), color="#24292f", linestyle=style, label=name)
    axis.set_xticks(range(len(ticks)), ticks)
    axis.set_ylabel("accuracy")
    axis.set_title(f"On the digits ({f'mean and deviation of {seeds} seeds' if seeds > 1 else 'one seed'})")
    axis.grid(alpha=0.3)
    figure.legend(frameon=False, loc="outside lower center", ncols=min(4, len(marks) + len(lines)))
    figure.savefig(path, dpi=130)
    print(f"wrote {path}")


class Claim:
    """Collects whether parts of a claim held, and says so at the end; None is a part that these seeds do not decide."""

    def __init__(self, text: str) -> None:
        self._text, self._parts, self._alone = text, list[tuple[bool | None, str]](), False

    def part(self, holds: bool | None, text: str) -> None:
        """Note a part, with its numbers."""
        self._parts.append((holds, text))

    def reaches(self, bar: float, scores: Sequence[float], text: str) -> None:
        """Note whether the mean of some scores reaches a bar; one seed decides nothing."""
        self._parts.append((mean(scores) >= bar if len(scores) > 1 else None, text))
        self._alone |= len(scores) < 2

    def beats(self, where: str, better: str, best: Sequence[float], worse: str, least: Sequence[float]) -> None:
        """Note whether one way has higher scores than another, seed by seed.

        The mean difference must be twice its standard error, in one direction or the other, or nothing is decided;
        one seed decides nothing.
        """
        differences = [a - b for a, b in zip(best, least, strict=True)]
        found, error = mean(differences), spread(differences) / math.sqrt(len(differences))
        self._alone |= len(differences) < 2
        holds = None if len(differences) < 2 or abs(found) <= 2 * error else found > 0
        self._parts.append((holds, f"{where} {better} beats {worse}: {said(best)}, {said(least)}"))

    def say(self, print_: Callable[[str], None] = print) -> bool:
        """Print the verdict, and return it."""
        verdicts = [held for held, _ in self._parts]
        holds = all(verdicts)
        undecided = "one seed decides nothing" if self._alone else "held where these seeds decide"
        whole = "held" if holds else "did not hold" if False in verdicts else undecided
        print_(f"\n{self._text}: {whole} ({time.perf_counter() - _START:.0f} s since the start)")
        for held, text in self._parts:
            print_(f"  {'open    ' if held is None else 'held    ' if held else 'NOT HELD'} {text}")
        return holds
