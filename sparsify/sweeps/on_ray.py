"""On Ray: the trials of a sweep as tasks of a cluster, which sees the folders that the command sees."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sparsify.errors import InputError, UsageError, first_line
from sparsify.sweeps.store import Claim, Outcome, Store
from sparsify.sweeps.trials import Sweep, Trial
from sparsify.sweeps.working import Runner, take

__all__ = ["run_on_ray"]

_LOOK = 0.3  # seconds


def run_on_ray(sweep: Sweep, address: str, jobs: int, on_trial: Callable[[], None] = lambda: None) -> None:
    """Run trials as tasks of a Ray cluster until all of the sweep are done.

    The command holds the store: it takes trials, hands them out, and writes down what comes back. Ray runs a task again
    whose worker was lost.

    Args:
        sweep: what to run.
        address: of the cluster, `auto` for the one that this machine belongs to, or `local` to start one here.
        jobs: how many processors a local one has.
        on_trial: called when trials are done.

    Raises:
        UsageError: Ray is not installed.
        InputError: the cluster cannot be reached.
        KeyboardInterrupt: of Ctrl-C; trials that were not done wait for others.
    """
    with _connected(address, jobs) as ray:
        gpus = 1 if sweep.device.startswith("cuda") else 0
        task = ray.remote(num_cpus=sweep.threads, num_gpus=gpus, max_retries=1)(_task)
        whole, here = ray.put(sweep), str(Path.cwd())
        slots = max(1, int(ray.cluster_resources().get("CPU", 1)) // sweep.threads)
        store, runner = Store(sweep.folder), Runner(sweep)
        running: dict[Any, list[Claim]] = {}
        try:
            while True:
                while len(running) < slots and (claims := take(store, sweep, runner)):
                    running[task.remote(whole, [claim.trial for claim in claims], here)] = claims
                if running:
                    done, _ = ray.wait(list(running), timeout=_LOOK)
                    for reference in done:
                        _settle(store, running.pop(reference), ray, reference)
                elif store.open(sweep.trials):  # another command has them
                    time.sleep(_LOOK)
                else:
                    return
                on_trial()
        finally:
            for reference, claims in running.items():
                ray.cancel(reference)
                for claim in claims:
                    store.put_back(claim)


@contextmanager
def _connected(address: str, jobs: int) -> Iterator[Any]:
    try:
        import ray
    except ImportError as error:
        raise UsageError("--ray needs Ray: pip install sparsify-fx[ray].") from error
    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address == "local":
            ray.init(address="local", num_cpus=jobs, **quiet)
        else:
            ray.init(address=address, **{**quiet, "include_dashboard": None})
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"--ray {address}: there is no such cluster: {first_line(error)}.") from error
    try:
        yield ray
    finally:
        ray.shutdown()


_runners: dict[str, Runner] = {}  # of this process, which Ray uses for many tasks


def _task(sweep: Sweep, trials: Sequence[Trial], here: str) -> list[Outcome]:
    """Run some trials in a process of the cluster, from the folder that the paths of the sweep start from."""
    os.chdir(here)
    torch.set_num_threads(sweep.threads)
    runner = _runners.setdefault(str(sweep.folder), Runner(sweep))
    return list(runner.run(trials))


def _settle(store: Store, claims: Sequence[Claim], ray: Any, reference: Any) -> None:
    try:
        outcomes: list[Outcome] = ray.get(reference)
    except ray.exceptions.RayError as error:
        outcomes = [{"error": f"Ray lost it: {first_line(error)}"} for _ in claims]
    for claim, outcome in zip(claims, outcomes, strict=True):
        store.settle(claim, outcome)
