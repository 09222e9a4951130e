"""Claim: `sparsify bench` tells a model that is 3% slower from noise, and rarely takes noise for a difference.

A chain of 100 equal matrix products with nonlinearities between them, about 5 ms in onnxruntime, against itself and
against a chain of 103, which is 3% more of the same. Every comparison is what the command does, with 4 seconds of
measuring: both files in turns, loaded eight times, 99% interval of the speed over the loadings.

Limit: an interval of 99% errs in one of a hundred comparisons of a file with itself, if loadings do not depend on each
other; fewer would need a wider one, and that would miss smaller differences.

Reading: `false alarms` are comparisons of a file with itself that are called faster or slower, `found` those of the
longer chain that are called slower. `width` is the median half width of the intervals: smaller differences are noise.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import numpy as np
import onnx
from common import QUICK, save, table
from onnx import TensorProto, helper, numpy_helper

from sparsify.contenders import contender
from sparsify.file_bench import compare
from sparsify.latency import Speed

WIDTH, BATCH = 512, 16
SAME, LONGER = (4, 2) if QUICK else (60, 20)
SECONDS = 0.5 if QUICK else 4.0
ALARMS, FOUND = 0.03, 0.95  # shares that hold the claim: 1 alarm in 60 is likely where 0.6 are expected


def chain(length: int, path: Path) -> Path:
    """Write a chain of so many layers with random weights."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((WIDTH, WIDTH)).astype(np.float32) * (2 / WIDTH) ** 0.5
    nodes, weights = [], []
    for number in range(length):
        weights.append(numpy_helper.from_array(weight, f"w{number}"))
        nodes.append(helper.make_node("MatMul", [f"x{number}", f"w{number}"], [f"y{number}"]))
        nodes.append(helper.make_node("Relu", [f"y{number}"], [f"x{number + 1}"]))
    ends = [helper.make_tensor_value_info(f"x{n}", TensorProto.FLOAT, ["batch", WIDTH]) for n in (0, length)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def speeds(first: Path, second: Path, times: int) -> tuple[list[Speed], float]:
    """Compare two files so many times; return the speeds of the second and the latency of the first."""
    found, latencies = [], []
    for number in range(times):
        models = [
            contender(p, None, provider="CPUExecutionProvider", device="cpu", trust=False) for p in (first, second)
        ]
        (one,) = compare(models, [BATCH], seconds=SECONDS)
        speed = one.rows[1].speed
        assert speed is not None
        found.append(speed)
        latencies.append(one.rows[0].latency.median)
        print(
            f"{second.stem} {number + 1} of {times}: {speed.ratio:.3f} ({speed.low:.3f}-{speed.high:.3f})", flush=True
        )
    return found, statistics.median(latencies)


def main() -> None:
    """Measure, and judge."""
    with tempfile.TemporaryDirectory() as folder:
        base, longer = chain(100, Path(folder) / "same.onnx"), chain(103, Path(folder) / "longer.onnx")
        same, latency = speeds(base, base, SAME)
        other, _ = speeds(base, longer, LONGER)
    alarms = sum(speed.verdict != "within noise" for speed in same) / len(same)
    found = sum(speed.verdict == "slower" for speed in other) / len(other)
    width = statistics.median((speed.high - speed.low) / 2 for speed in (*same, *other))
    ratio = statistics.median(speed.ratio for speed in other)
    table(["ms", "false alarms", "found", "ratio", "width"],
          [[f"{latency:.2f}", f"{alarms:.1%}", f"{found:.1%}", f"{ratio:.3f}", f"{width:.3f}"]])  # fmt: skip
    save(
        __file__,
        "`sparsify bench` tells a difference of 3% from noise on a model of 5 ms, and rarely takes noise for one",
        alarms <= ALARMS and found >= FOUND,
        f"{latency:.1f} ms: {alarms:.0%} of {len(same)} comparisons of a file with itself are false alarms, "
        f"{found:.0%} of {len(other)} with 3% more layers are found (speed {ratio:.3f}); half intervals are "
        f"{width:.1%} wide.",
        {"latency_ms": latency, "false_alarms": alarms, "found": found, "speed_of_longer": ratio, "half_width": width,
         "same": [speed.as_dict() for speed in same], "longer": [speed.as_dict() for speed in other]},
    )  # fmt: skip


if __name__ == "__main__":
    main()
