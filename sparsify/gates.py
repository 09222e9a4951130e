"""Gates: what a measurement must reach, for pipelines that should stop where it does not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from xml.etree import ElementTree

from sparsify.errors import GateError, UsageError
from sparsify.file_bench import Table
from sparsify.report.quantities import size

__all__ = ["Gates", "Verdict", "junit", "parse_size", "refuse"]

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
        max_size: how many bytes every file but the first may have, or the only one.
    """

    min_speedup: float | None = None
    max_size: int | None = None

    def verdicts(self, tables: Sequence[Table]) -> list[Verdict]:
        """Judge what was measured: speeds at every batch size, sizes once."""
        found = []
        if self.min_speedup is not None:
            for table in tables:
                for row in table.rows:
                    if row.speed is not None:
                        where = f"{row.name}, batch {table.batch}"
                        found.append(_speedup(self.min_speedup, row.speed.ratio, where))
        if self.max_size is not None:
            rows = tables[0].rows
            found += [_size(self.max_size, row.bytes, row.name) for row in (rows[1:] or rows)]
        return found


def refuse(verdicts: Sequence[Verdict]) -> None:
    """Raise if a gate was not passed.

    Raises:
        GateError: it says which failed, and by how much.
    """
    failed = [f"{verdict.gate}: {verdict.text}" for verdict in verdicts if not verdict.passed]
    if failed:
        raise GateError(f"{'A gate' if len(failed) == 1 else f'{len(failed)} gates'} failed. {'; '.join(failed)}.")


def _speedup(limit: float, ratio: float, where: str) -> Verdict:
    passed = ratio >= limit
    text = f"{ratio:.2f}x as fast" if passed else f"only {ratio:.2f}x as fast, {limit - ratio:.2f}x are missing"
    return Verdict(f"--min-speedup {limit:g}: {where}", passed, text)


def _size(limit: int, found: int, name: str) -> Verdict:
    passed = found <= limit
    return Verdict(f"--max-size {size(limit)}: {name}", passed,
                   size(found) if passed else f"{size(found)}, {size(found - limit)} too many")  # fmt: skip


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
