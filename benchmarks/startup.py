"""Claim: `sparsify --help`, `sparsify passes` and `sparsify criteria` answer in under 0.5 s.

Limit: starting the interpreter itself (`python -c pass`), measured beside them; importing torch alone takes seconds.
Whole processes, as a user starts them, run in turns; the median counts. A command that imports one of the heavy
modules breaks the claim at any speed, because what is imported on a fast machine is waited for on a slow one.

Reading: `seconds` is the median, `fastest` and `slowest` its spread, `heavy` must be empty, `slowest_imports` says
where the time went (milliseconds, without what a module imports itself).
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

from common import save, table

LIMIT = 0.5
RUNS = 10
HEAVY = ("torch", "numpy", "onnx", "onnxruntime", "onnxscript", "networkx", "sklearn", "transformers", "triton")
ARGUMENTS = (["--help"], ["passes"], ["criteria"])


def main() -> None:
    script = str(Path(sysconfig.get_path("scripts")) / "sparsify")
    commands = {"python -c pass": [sys.executable, "-c", "pass"]}
    commands |= {" ".join(["sparsify", *rest]): [script, *rest] for rest in ARGUMENTS}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(1 + RUNS):  # the first turn fills the disk cache and is not counted
        for name, command in commands.items():
            seconds = _seconds(command)
            if turn:
                times[name].append(seconds)
    results = {name: _summary(samples) for name, samples in times.items()}
    for rest in ARGUMENTS:
        results[" ".join(["sparsify", *rest])] |= _imports(rest)

    table(
        ["command", "median s", "fastest", "slowest", "heavy imports"],
        [
            [name, r["seconds"], r["fastest"], r["slowest"], ", ".join(r.get("heavy", [])) or "-"]
            for name, r in results.items()
        ],
    )
    worst = max(result["seconds"] for result in results.values())
    floor = results["python -c pass"]["seconds"]
    save(
        __file__,
        f"sparsify --help, passes and criteria answer in under {LIMIT} s and import none of {', '.join(HEAVY)}",
        worst < LIMIT and not any(result.get("heavy") for result in results.values()),
        f"The slowest command takes {worst:.2f} s, of which starting Python is {floor:.2f} s.",
        results,
    )


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def _summary(samples: list[float]) -> dict[str, Any]:
    return {"seconds": statistics.median(samples), "fastest": min(samples), "slowest": max(samples)}


def _imports(arguments: list[str]) -> dict[str, Any]:
    """Return what a command imports, as `-X importtime` prints it: `import time: self [us] | cumulative | module`."""
    command = [sys.executable, "-X", "importtime", "-m", "sparsify", *arguments]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    own = {name: int(micro) for micro, name in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", text)}
    slowest = sorted(own, key=own.__getitem__, reverse=True)[:5]
    return {
        "modules": len(own),
        "heavy": sorted({name.partition(".")[0] for name in own} & set(HEAVY)),
        "slowest_imports": {name: own[name] / 1e3 for name in slowest},
    }


if __name__ == "__main__":
    main()
