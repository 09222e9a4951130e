"""Claim: with DDP, compact training at 90% sends at most 0.12 of a dense run's gradients, and masks cost at most 5%.

A perceptron of 4.7 million weights and layer norms on random numbers, on two processes of this machine (gloo, one
thread each): dense, masked and compact with DDP, and masked and compact with FSDP2. Bytes are what the loopback device
counts for a step behind the first ones (`/proc/net/dev`), acknowledgements and the few numbers that the processes agree
on included, and for DDP what its buckets hold. The overhead is that of DDP with masks over plain DDP written with torch
alone, both in the same processes, alternating step by step; its interval is that of the median of the ratios.

Limit: a ring over two processes sends each gradient once in each direction, 4 bytes a weight; compact gradients are
`density` of it, and biases and norms are whole. FSDP2 gathers the weights twice and scatters gradients once.

Reading: processes on one machine share its two cores and exchange through memory, so that times say little about a
network; bytes are the same on any.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import QUICK, save, table
from torch import Tensor, nn

import sparsify as sp
from sparsify.parallel.strategy import Parallel, parallel
from sparsify.pass_manager import PassManager
from sparsify.program import Program
from sparsify.task import Score
from sparsify.training.train import train
from sparsify.training.train_options import TrainOptions
from sparsify.training.watch import StepEvent

STEPS = 12 if QUICK else 60
WIDTH = 512 if QUICK else 1536
BATCH, WARM, PROCESSES = 64, 4, 2
GOAL, OVERHEAD = 0.12, 1.05
KINDS = ("ddp dense", "ddp masked", "ddp compact", "fsdp masked", "fsdp compact")


class Numbers:
    """Random numbers and labels."""

    name = "numbers"

    def batches(self, split: str, *, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
        """Return the batches of all steps."""
        generator = torch.Generator().manual_seed(seed)
        return [(torch.randn(BATCH, WIDTH, generator=generator), torch.randint(0, 10, (BATCH,), generator=generator))
                for _ in range(STEPS)]  # fmt: skip

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the cross-entropy."""
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def score(self, model: nn.Module) -> Score:
        """Return nothing of interest."""
        return Score(0.0, "none", 1)


def network() -> nn.Module:
    """Return the perceptron."""
    torch.manual_seed(0)
    layers = [layer for _ in range(2) for layer in (nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


def program_of(kind: str) -> Program:
    """Return it as a program, masked but for the dense one."""
    program = sp.capture(network(), (torch.randn(4, WIDTH),))
    return program if kind == "dense" else PassManager(["weight-prune:sparsity=0.9"]).run(program)


def sent() -> int:
    """Return how many bytes have gone through the loopback device."""
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[8])


def measured(kind: str, spread: Parallel) -> dict[str, Any]:
    """Train, and return the bytes and seconds of a step."""
    seen: list[tuple[float, int]] = []

    def look(event: StepEvent) -> None:
        seen.append((time.perf_counter(), sent()))

    options = TrainOptions(steps=f"{STEPS}it", learning_rate=0.01, compact=kind == "compact")
    done = train(program_of(kind), Numbers(), options, on_step=look, parallel=spread)
    pairs = list(zip(seen[WARM:], seen[WARM + 1 :], strict=False))
    return {
        "bytes": statistics.median(after[1] - before[1] for before, after in pairs),
        "seconds": statistics.median(after[0] - before[0] for before, after in pairs),
        "weights": sum(value.numel() for value in done.program.parameters.values()),
    }


def plain_step() -> Callable[[], None]:
    """Return a step of DDP as everybody writes it, with torch alone."""
    model = nn.parallel.DistributedDataParallel(network(), static_graph=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
    batches = iter(Numbers().batches("train") * 2)

    def step() -> None:
        x, y = next(batches)
        nn.functional.cross_entropy(model(x[: BATCH // PROCESSES]), y[: BATCH // PROCESSES]).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def overhead(spread: Parallel) -> dict[str, Any]:
    """Return how long steps with masks take beside plain ones, alternating."""
    step, ratios, last = plain_step(), list[float](), [0.0]

    def look(event: StepEvent) -> None:
        masked = time.perf_counter() - last[0]
        begun = time.perf_counter()
        step()
        last[0] = time.perf_counter()
        if event.step > WARM:
            ratios.append(masked / (last[0] - begun))

    options = TrainOptions(steps=f"{STEPS}it", learning_rate=0.01)
    train(program_of("masked"), Numbers(), options, on_step=look, parallel=spread)
    ratios.sort()
    n, half = len(ratios), 1.96 * len(ratios) ** 0.5 / 2  # order statistics: the interval of a median
    low, high = ratios[max(0, int(n / 2 - half))], ratios[min(n - 1, int(n / 2 + half))]
    return {"ratio": statistics.median(ratios), "interval": [low, high]}


def work(kind: str) -> None:
    """Measure one kind in this process, and print it if it is the first one."""
    torch.set_num_threads(1)
    way, _, what = kind.partition(" ")
    with parallel("fsdp" if way == "fsdp" else "ddp") as spread:
        found = overhead(spread) if what == "overhead" else measured(what, spread)
        if spread.ranks.leads:
            print(json.dumps(found), flush=True)


def run(kind: str) -> dict[str, Any]:
    """Start the processes of a kind; return what the first one prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = [sys.executable, __file__, "--kind", kind, *(["--quick"] if QUICK else [])]
    processes = [
        subprocess.Popen(
            words, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(PROCESSES),
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(PROCESSES)
    ]  # fmt: skip
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"{kind} failed")
    found: dict[str, Any] = json.loads(outputs[0].splitlines()[-1])
    return found


def main() -> None:
    """Measure all kinds, and save."""
    if "--kind" in sys.argv:
        work(sys.argv[sys.argv.index("--kind") + 1])
        return
    rows = [{"kind": kind, **run(kind)} for kind in KINDS]
    dense = rows[0]["bytes"]
    for row in rows:
        row["of_dense"] = row["bytes"] / dense
        row["bytes_a_weight"] = row["bytes"] / row["weights"]
    cost = run("ddp overhead")
    compact = next(row["of_dense"] for row in rows if row["kind"] == "ddp compact")
    table(
        ["kind", "bytes a step", "a weight", "of dense", "ms a step"],
        [[row["kind"], f"{row['bytes']:,.0f}", f"{row['bytes_a_weight']:.2f}", f"{row['of_dense']:.3f}",
          f"{1000 * row['seconds']:.1f}"] for row in rows],
    )  # fmt: skip
    low, high = cost["interval"]
    holds = compact <= GOAL and low <= OVERHEAD
    reading = (
        f"gradients of compact training are {compact:.3f} of dense ones; a step with masks takes {cost['ratio']:.3f} "
        f"of a plain one ({low:.3f} to {high:.3f})"
    )
    claim = (
        f"at 90% sparsity compact training sends at most {GOAL} of a dense run's gradients with DDP, and masks cost at "
        f"most {OVERHEAD - 1:.0%} of a step"
    )
    save(__file__, claim, holds, reading, {"processes": PROCESSES, "overhead": cost, "rows": rows})


if __name__ == "__main__":
    main()
