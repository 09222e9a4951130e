"""Gates: what a result must reach before anything is written, for pipelines that should stop where it does not."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from xml.etree import ElementTree

from sparsify.errors import UsageError
from sparsify.report.quantities import size

__all__ = ["Gates", "Verdict", "junit", "parse_size"]

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True)
class Verdict:
    """Whether a gate was passed.

    Attributes:
        gate: the option that set it: `--max-drop 0.01`.
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
        max_drop: how much the score may fall.
        min_speedup: how many times as fast as the dense model the ONNX file must be, measured in the same run.
        max_size: how many bytes a file may have.
    """

    max_drop: float | None = None
    min_speedup: float | None = None
    max_size: int | None = None

    def verdicts(self, report: Mapping[str, Any], sizes: Mapping[str, int]) -> list[Verdict]:
        """Judge a run.

        Args:
            report: of the run; `scores` and `latency` are looked at.
            sizes: bytes of every file that is to be written.
        """
        found = []
        if self.max_drop is not None:
            found.append(_drop(self.max_drop, report["scores"]))
        if self.min_speedup is not None:
            found.append(_speedup(self.min_speedup, report["latency"]))
        if self.max_size is not None:
            found.append(_size(self.max_size, sizes))
        return found


def _drop(limit: float, scores: Mapping[str, Any]) -> Verdict:
    before, after = scores["before"], scores["after"]
    drop, name = before["value"] - after["value"], after["name"]
    passed = drop <= limit  # a score that is not a number passes no gate
    values = f"{before['value']:.4f} before, {after['value']:.4f} after"
    if passed:
        return Verdict(f"--max-drop {limit:g}", True, f"{name}: {values}")
    by = f"; {drop - limit:.4f} too much" if math.isfinite(drop) else ""
    return Verdict(f"--max-drop {limit:g}", False, f"the {name} fell by {drop:.4f}: {values}{by}")


def _speedup(limit: float, latency: Mapping[str, Any] | None) -> Verdict:
    gate = f"--min-speedup {limit:g}"
    if latency is None:
        return Verdict(gate, False, "there is no latency of the dense model to compare with")
    before, after = latency["before"]["median"], latency["after"]["median"]
    ratio = before / after
    text = f"{ratio:.2f}x as fast: {before:.3g} ms before, {after:.3g} ms after"
    return Verdict(gate, ratio >= limit, text if ratio >= limit else f"only {text}; {limit - ratio:.2f}x are missing")


def _size(limit: int, sizes: Mapping[str, int]) -> Verdict:
    name, largest = max(sizes.items(), key=lambda item: item[1])
    gate, text = f"--max-size {limit}", f"{name} has {size(largest)}"
    return Verdict(gate, largest <= limit, text if largest <= limit else f"{text}, {size(largest - limit)} too many")


def parse_size(text: str) -> int:
    """Return the bytes that `500kB`, `10MB` or `9.5MiB` are.

    Raises:
        UsageError: it is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip())
    if not match or match[2].lower() not in _UNITS:
        raise UsageError(f"--max-size {text}: write bytes, kB, MB, GB, KiB, MiB or GiB, such as 10MB.")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def junit(name: str, verdicts: Sequence[Verdict], seconds: float) -> str:
    """Write verdicts as JUnit's XML, which build servers show as tests: a gate is a test case."""
    failed = sum(not verdict.passed for verdict in verdicts)
    suite = ElementTree.Element(
        "testsuite", name=f"sparsify {name}", tests=str(len(verdicts)), failures=str(failed), time=f"{seconds:.3f}"
    )
    for verdict in verdicts:
        case = ElementTree.SubElement(suite, "testcase", classname="sparsify.gates", name=verdict.gate)
        if verdict.passed:
            ElementTree.SubElement(case, "system-out").text = verdict.text
        else:
            ElementTree.SubElement(case, "failure", message=verdict.text).text = verdict.text
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"
