"""What the experiments share: networks, runs over seeds, tables, and claims that are judged. It does nothing alone."""

from __future__ import annotations

import argparse
import csv
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

__all__ = ["Claim", "arguments", "lenet", "mean", "said", "spread", "write_table"]


def lenet(seed: int) -> Program:
    """Return a perceptron 64-300-100-10, LeNet-300-100 for the digits, with the weights of a seed."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
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
    """Write scores in percent: `97.5 ± 0.4`."""
    return f"{100 * mean(values):.1f} ± {100 * spread(values):.1f}"


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"wrote {path}")


class Claim:
    """Collects whether parts of a claim held, and says so at the end."""

    def __init__(self, text: str) -> None:
        self._text, self._parts, self._start = text, list[tuple[bool, str]](), time.perf_counter()

    def part(self, holds: bool, text: str) -> None:
        """Note a part, with its numbers."""
        self._parts.append((holds, text))

    def say(self, print_: Callable[[str], None] = print) -> bool:
        """Print the verdict, and return it."""
        holds = all(held for held, _ in self._parts)
        print_(f"\n{self._text}: {'held' if holds else 'did not hold'} ({time.perf_counter() - self._start:.0f} s)")
        for held, text in self._parts:
            print_(f"  {'held    ' if held else 'NOT HELD'} {text}")
        return holds
