"""What the GitHub Action in action.yml runs: the command, with a summary of its report as Markdown.

Inputs come as SPARSIFY_* in the environment and become arguments of a process, without a shell. Needs the standard
library and the command `sparsify`.
"""

from __future__ import annotations

import html
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GATES = ("max-drop", "min-speedup", "max-size")
SINGLE = ("recipe", "retrain", "task", "storage", *GATES, "report")
LINES = {"passes": "pass", "output": "output"}
ESCAPED = re.compile(r"([\\`*_\[\]|~])")
Environment = Mapping[str, str]


def given(env: Environment, name: str) -> str:
    """Return an input, without space around it; empty if it was not given."""
    return env.get(f"SPARSIFY_{name.upper().replace('-', '_')}", "").strip()


def arguments(env: Environment) -> list[str]:
    """Return the arguments of the command."""
    model = given(env, "model")
    # With = and ./, what begins with a dash is no option.
    words = [f"./{model}" if model.startswith("-") else model]
    words += [f"--{name}={value}" for name in SINGLE if (value := given(env, name))]
    for name, option in LINES.items():
        words += [f"--{option}={line.strip()}" for line in given(env, name).splitlines() if line.strip()]
    if any(given(env, name) for name in GATES) and given(env, "junit"):
        words.append(f"--junit={given(env, 'junit')}")
    return [*words, *shlex.split(given(env, "arguments"))]


def run(words: list[str]) -> tuple[int, str]:
    """Run the command; return its exit status and what it wrote to stderr, which is shown as well."""
    # Not -m sparsify: Python would look for modules where the command runs, before its own.
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [shutil.which("sparsify", path=beside) or "sparsify", *words]
    print(f"$ {shlex.join(['sparsify', *words])}", flush=True)
    told = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stderr is not None
        for line in process.stderr:
            sys.stderr.write(line)
            told.append(line)
    status = process.returncode
    return status if status >= 0 else 128 - status, "".join(told)  # as a shell says that a signal ended it


def stamp(path: str) -> tuple[int, int] | None:
    """Return what tells a file from an older one of the name."""
    if not path or not Path(path).is_file():
        return None
    found = Path(path).stat()
    return found.st_ino, found.st_mtime_ns


def cell(value: object) -> str:
    """Return text as a cell of a Markdown table, whatever is in it."""
    return ESCAPED.sub(r"\\\1", html.escape(" ".join(str(value).split()), quote=False))


def table(headings: list[str], rows: list[list[object]]) -> list[str]:
    """Return a Markdown table; what is behind the first column is flush right."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *[[cell(value) for value in row] for row in rows]]
    return ["| " + " | ".join(line) + " |" for line in lines]


def summary(status: int, report: Mapping[str, Any] | None, told: str) -> str:
    """Return the summary: what changed, what the gates found, and the error if there is one."""
    titles = {0: "done", 1: "a gate failed", 2: "wrong use, or a bad file", 3: "a check failed"}
    name = f": {cell(report['model'])}" if report else ""
    lines = [f"### sparsify{name} - {titles.get(status, f'exit status {status}')}", ""]
    if report is not None:
        lines += [*table(["", "before", "after", "change"], changes(report)), ""]
        if gates := report.get("gates"):
            rows = [[gate["gate"], gate["text"], "passed" if gate["passed"] else "FAILED"] for gate in gates]
            lines += [*table(["gate", "found", ""], rows), ""]
        for artefact in report.get("artefacts", ()):
            lines.append(f"- wrote {cell(artefact['path'])} ({artefact['bytes']:,} bytes)")
        lines += ["", f"<pre>{html.escape(report['command'])}</pre>", ""]
    if status and (error := told.strip().splitlines()[-1:]):
        lines += [f"<pre>{html.escape(error[0])}</pre>", ""]
    return "\n".join(lines) + "\n"


def changes(report: Mapping[str, Any]) -> list[list[object]]:
    """Return a row for each quantity: before, after, change."""
    rows: list[list[object]] = []
    for label, key in (("parameters", "parameters"), ("non-zeros", "nonzero"), ("MACs", "macs")):
        one, two = report["before"][key], report["after"][key]
        rows.append([label, f"{one:,}", f"{two:,}", percent(one, two)])
    if latency := report.get("latency"):
        one, two, speed = latency["dense_bytes"], latency["bytes"], latency["speed"]
        rows.append(["ONNX file, bytes", f"{one:,}", f"{two:,}", percent(one, two)])
        times = (f"{latency[when]['median']:.3g} ms" for when in ("before", "after"))
        found = f"{speed['ratio']:.2f}x, 99% interval {speed['low']:.2f}-{speed['high']:.2f} ({speed['verdict']})"
        rows.append(["latency", *times, found])
    if scores := report.get("scores"):
        one, two = scores["before"]["value"], scores["after"]["value"]
        rows.append([scores["after"]["name"], f"{one:.4f}", f"{two:.4f}", f"{two - one:+.4f}"])
    return rows


def percent(before: float, after: float) -> str:
    """Return a relative change."""
    return f"{100 * (after - before) / before:+.1f}%" if before else ""


def append(env: Environment, variable: str, text: str) -> None:
    """Append to one of the files that GitHub names; elsewhere to nothing."""
    if path := env.get(variable):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


def output(name: str, value: str) -> str:
    """Return an output of the step; no value can end it early and set another."""
    mark = f"end-{secrets.token_hex(16)}"
    return f"{name}<<{mark}\n{value}\n{mark}\n"


def main(env: Environment) -> int:
    """Run the command, write summary and outputs, return the exit status."""
    words = arguments(env)
    files = {name: given(env, name) for name in ("report", "junit")}
    old = {name: stamp(path) for name, path in files.items()}
    status, told = run(words)
    new = {name: path if stamp(path) not in (None, old[name]) else "" for name, path in files.items()}
    report = json.loads(Path(new["report"]).read_text("utf-8")) if new["report"].endswith(".json") else None
    append(env, "GITHUB_STEP_SUMMARY", summary(status, report, told))
    values = {"status": str(status), **new}
    append(env, "GITHUB_OUTPUT", "".join(output(name, value) for name, value in values.items()))
    if status and (error := told.strip().splitlines()[-1:]):
        text = error[0].replace("%", "%25").replace("\r", "%0D")
        print(f"::error title=sparsify::{text}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(os.environ))
