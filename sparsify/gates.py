"""Gates: what a measurement must reach, for pipelines that should stop where it does not."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from sparsify.atomic import writing
from sparsify.errors import GateError, UsageError
from sparsify.file_bench import Table
from sparsify.latency import Speed
from sparsify.report.quantities import size

__all__ = ["Gates", "Verdict", "junit", "parse_size", "refuse", "write_junit"]

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True)
class Verdict:
    """Whether a gate was passed.

    Attributes:
        gate: the option that set it, and for what: `--min-speedup 1.5: small.onnx, batch 1`.
        passed: whether it was.
        text: what was found, and where it failed by how much.
    """

    gate: str
    passed: bool
    text: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class Gates:
    """Limits that the user set; None is no limit.

    Attributes:
        min_speedup: how many times as fast as the first file every other one must be.
        max_size: how large every file but the first may be, or the only one, as `parse_size` reads it.
        max_drop: how much the score may fall.

    Raises:
        UsageError: a limit is none.
    """

    min_speedup: float | None = None
    max_size: str | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        if self.max_size is not None:
            parse_size(self.max_size)
        if self.min_speedup is not None and not self.min_speedup > 0:
            raise UsageError(f"--min-speedup {self.min_speedup:g}: it must be more than 0.")
        if self.max_drop is not None and math.isnan(self.max_drop):
            raise UsageError("--max-drop nan: it must be a number.")

    @property
    def of_files(self) -> bool:
        """Whether what is written is judged, not only the score."""
        return self.min_speedup is not None or self.max_size is not None

    def __bool__(self) -> bool:
        """Whether there is a limit."""
        return self.of_files or self.max_drop is not None

    def verdicts(self, tables: Sequence[Table]) -> list[Verdict]:
        """Judge what was measured: speeds at every batch size, sizes once."""
        found = []
        for table in tables:
            for row in table.rows:
                if row.speed is not None:
                    found += self.speed(row.speed, f"{row.name}, batch {table.batch}")
        rows = tables[0].rows
        return found + self.sizes({row.name: row.bytes for row in (rows[1:] or rows)})

    def speed(self, found: Speed | str, where: str) -> list[Verdict]:
        """Judge a speed by the estimate; if there is none, a text says why, and no limit is reached."""
        if self.min_speedup is None:
            return []
        gate = f"--min-speedup {self.min_speedup:g}: {where}"
        if isinstance(found, str):
            return [Verdict(gate, False, f"not measured: {found}")]
        passed = found.ratio >= self.min_speedup
        text = f"{found.ratio:.2f}x as fast (99% interval {found.low:.2f}-{found.high:.2f})"
        if not passed:
            missing = self.min_speedup - found.ratio
            text = f"only {text}, {missing:.2f}x are missing" if missing >= 0.01 else f"just under: only {text}"
        if found.low < self.min_speedup <= found.high:
            text += "; the limit lies within noise, so that another run may say otherwise"
        return [Verdict(gate, passed, text)]

    def sizes(self, found: Mapping[str, int]) -> list[Verdict]:
        """Judge the bytes of files, by name."""
        if self.max_size is None:
            return []
        limit, verdicts = parse_size(self.max_size), []
        for name, count in found.items():
            text = size(count) if count <= limit else f"{size(count)}, {size(count - limit)} too many"
            verdicts.append(Verdict(f"--max-size {self.max_size}: {name}", count <= limit, text))
        return verdicts

    def drop(self, scores: Mapping[str, Any]) -> list[Verdict]:
        """Judge the scores of a report, `before` and `after`; one that is not a number passes no gate."""
        if self.max_drop is None:
            return []
        before, after = scores["before"]["value"], scores["after"]["value"]
        drop = before - after
        text = f"rose by {-drop:.4f}" if drop < 0 else f"fell by {drop:.4f}"
        if math.isnan(drop):
            text = "is no number any more"
        elif drop > self.max_drop:
            text += f", {drop - self.max_drop:.4f} too {'little' if drop < 0 else 'much'}"
        gate = f"--max-drop {self.max_drop:g}: {scores['after']['name']}"
        return [Verdict(gate, drop <= self.max_drop, f"{text} ({before:.4f} before, {after:.4f} after)")]


def refuse(verdicts: Sequence[Verdict], report: Mapping[str, Any] | None = None, more: str = "") -> None:
    """Raise if a gate was not passed.

    Args:
        verdicts: of all gates.
        report: of the run, which the error carries.
        more: what the error also says.

    Raises:
        GateError: it says which failed, and by how much.
    """
    failed = [f"{verdict.gate}: {verdict.text.rstrip('.')}" for verdict in verdicts if not verdict.passed]
    if failed:
        count = "A gate" if len(failed) == 1 else f"{len(failed)} gates"
        raise GateError(" ".join(filter(None, [f"{count} failed. {'; '.join(failed)}.", more])), report)


def parse_size(text: str) -> int:
    """Return the bytes that `500kB`, `10MB` or `9.5MiB` are.

    Raises:
        UsageError: it is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip())
    if not match or match[2].lower() not in _UNITS:
        raise UsageError(f"--max-size {text}: write bytes, kB, MB, GB, KiB, MiB or GiB, such as 10MB.")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def junit(verdicts: Sequence[Verdict], seconds: float) -> str:
    """Write verdicts as JUnit's XML, which build servers show as tests: a gate is a test case."""
    failed = sum(not verdict.passed for verdict in verdicts)
    suite = ElementTree.Element(
        "testsuite", name="sparsify", tests=str(len(verdicts)), failures=str(failed), time=f"{seconds:.3f}"
    )
    for verdict in verdicts:
        case = ElementTree.SubElement(suite, "testcase", classname="sparsify.gates", name=verdict.gate)
        if verdict.passed:
            ElementTree.SubElement(case, "system-out").text = verdict.text
        else:
            ElementTree.SubElement(case, "failure", message=verdict.text).text = verdict.text
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def write_junit(path: Path, verdicts: Sequence[Verdict], seconds: float) -> None:
    """Write verdicts as a JUnit file.

    Raises:
        InputError: it cannot be written.
    """
    with writing(path) as temporary:
        temporary.write_text(junit(verdicts, seconds), encoding="utf-8")
