"""The table of published results: its columns, how it is read, and how rows are chosen."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from sparsify.errors import InputError, UsageError, unreadable
from sparsify.spec import nearest

__all__ = ["COLUMNS", "PERCENT", "Result", "lower_is_better", "read_table", "select", "shipped"]

PERCENT = ("accuracy", "AP", "BLEU", "F1")  # scores between 0 and 100, higher is better
_LOWER = ("perplexity",)
_OTHER = re.compile(r"[^()]*[^() ] \((higher|lower)\)")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_SHIPPED = Path(__file__).parent / "results.csv"


@dataclass(frozen=True)
class Result:
    """One published number; what its source does not say is None.

    Attributes:
        method: how the network was pruned.
        paper: authors and title of what reports the number.
        year: of the paper.
        architecture: of the network.
        data: what the score was measured on.
        sparsity: the part of the weights that is gone, as the paper counts it, in [0, 1).
        macs_removed: the part of the multiply-accumulates that is gone, in [0, 1).
        metric: what the score is. `accuracy` (top-1), `AP`, `BLEU` and `F1` are in percent, of `perplexity` less is
            better, any other name says it in brackets: `word error rate (lower)`.
        score: of the pruned network.
        dense_score: of the network before, in the same paper.
        source: where the number can be looked up.
    """

    method: str
    paper: str
    year: int
    architecture: str
    data: str
    sparsity: float | None
    macs_removed: float | None
    metric: str
    score: float
    dense_score: float | None
    source: str

    @property
    def change(self) -> float | None:
        """The score minus that of the dense network."""
        return None if self.dense_score is None else self.score - self.dense_score


COLUMNS = tuple(field.name for field in fields(Result))
_TEXTS = ("method", "paper", "architecture", "data", "metric", "source")
_PARTS = ("sparsity", "macs_removed")


def lower_is_better(metric: str) -> bool:
    """Say whether less of a score is better."""
    return metric in _LOWER or metric.endswith("(lower)")


def shipped() -> list[Result]:
    """Return the table that comes with the package."""
    return read_table(_SHIPPED)


def read_table(path: Path) -> list[Result]:
    """Read a CSV file with the columns `COLUMNS`, in any order.

    Raises:
        InputError: the file cannot be read, lacks a column or has another, or a cell is not what its column holds.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table: {unreadable(error)}.") from error
    names = lines[0][1] if lines else []
    if sorted(names) != sorted(COLUMNS):
        raise InputError(
            f"{path}, line 1: the columns of published results are {','.join(COLUMNS)}, with commas between them, "
            f"not {','.join(names) or 'none'}."
        )
    found: dict[tuple[object, ...], int] = {}
    results = []
    for line, cells in lines[1:]:
        where = f"{path}, line {line}"
        if len(cells) != len(names):
            raise InputError(
                f"{where}: {len(cells)} cells where there are {len(names)} columns; text with commas needs quotes."
            )
        result = _result(where, {name: " ".join(cell.split()) for name, cell in zip(names, cells, strict=True)})
        key = (result.method, result.paper, result.architecture, result.data, result.metric, *_parts(result))
        if key in found:
            raise InputError(f"{where} repeats line {found[key]}: the same method, paper, network, data and sparsity.")
        found[key] = line
        results.append(result)
    return results


def select(
    results: Sequence[Result],
    architecture: Sequence[str] = (),
    data: Sequence[str] = (),
    method: Sequence[str] = (),
) -> list[Result]:
    """Return the results of one of the architectures, on one of the data, by one of the methods; none given means all.

    A name is matched from its beginning, part by part: `resnet` takes every ResNet, `ResNet50` is `ResNet-50`, and
    `CIFAR-10` is not `CIFAR-100`.

    Raises:
        UsageError: a name occurs nowhere, or nothing has all of them.
    """
    chosen = list(results)
    for name, asked in (("architecture", architecture), ("data", data), ("method", method)):
        known = list(dict.fromkeys(getattr(result, name) for result in results))
        for word in asked:
            if not any(_begins(one, word) for one in known):
                raise UsageError(
                    f"--{name} {word}: no result has that{nearest(word, known)}. There are: {', '.join(known)}."
                )
        if asked:
            chosen = [result for result in chosen if any(_begins(getattr(result, name), word) for word in asked)]
    if not chosen:
        asked_all = [*architecture, *data, *method]
        raise UsageError(f"No result has all of {', '.join(asked_all)}. Leave one of them out to see what there is.")
    return chosen


def _begins(name: str, word: str) -> bool:
    parts, asked = _split(name), _split(word)
    return bool(asked) and parts[: len(asked)] == asked


def _split(name: str) -> list[str]:
    return re.findall(r"[a-z]+|\d+", name.lower())


def _parts(result: Result) -> Iterable[float | None]:
    return (getattr(result, name) for name in _PARTS)


def _result(where: str, row: dict[str, str]) -> Result:
    for name in _TEXTS:
        if not row[name]:
            raise InputError(f"{where}, column {name}: it is empty.")
        if not row[name].isprintable():
            raise InputError(f"{where}, column {name}: it holds characters that cannot be printed.")
    metric = row["metric"]
    if metric not in (*PERCENT, *_LOWER) and not _OTHER.fullmatch(metric):
        raise InputError(
            f"{where}, column metric: {metric!r} is not one of {', '.join((*PERCENT, *_LOWER))}. Another score says "
            f"which way is better: {metric.partition('(')[0].strip()} (higher), or (lower)."
        )
    if not re.fullmatch(r"(19|20)\d\d", row["year"]):
        raise InputError(f"{where}, column year: {row['year']!r} is no year.")
    sparsity, macs = (_part(f"{where}, column {name}", row[name]) for name in _PARTS)
    if sparsity is None and macs is None:
        raise InputError(f"{where}: one of sparsity and macs_removed must say how much is gone.")
    score, dense = (_score(f"{where}, column {name}", row[name], metric) for name in ("score", "dense_score"))
    if score is None:
        raise InputError(f"{where}, column score: it is empty.")
    if metric == "accuracy" and dense is not None and dense <= 1:
        raise InputError(f"{where}, column dense_score: {dense:g}% is no accuracy of a dense network: write percent.")
    return Result(
        row["method"], row["paper"], int(row["year"]), row["architecture"], row["data"], sparsity, macs, metric, score,
        dense, row["source"],
    )  # fmt: skip


def _number(where: str, cell: str) -> float | None:
    if not cell:
        return None
    if not _NUMBER.fullmatch(cell):
        raise InputError(f"{where}: {cell!r} is no plain number such as 0.95; leave empty what is not known.")
    return float(cell)


def _part(where: str, cell: str) -> float | None:
    value = _number(where, cell)
    if value is not None and not 0 <= value < 1:
        raise InputError(f"{where}: {cell} is not between 0 and 1; 90% is written 0.9.")
    return value


def _score(where: str, cell: str, metric: str) -> float | None:
    value = _number(where, cell)
    if value is None or _OTHER.fullmatch(metric):
        return value
    if metric in PERCENT and not 0 <= value <= 100:
        raise InputError(f"{where}: {cell} is not between 0 and 100; {metric} is in percent.")
    if metric in _LOWER and value < 1:
        raise InputError(f"{where}: {cell} is less than 1, which no {metric} is.")
    return value
