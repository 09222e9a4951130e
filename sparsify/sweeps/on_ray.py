"""On Ray: the trials of a sweep as tasks of a cluster, which sees the folders that the command sees."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from sparsify.errors import InputError, UsageError, first_line
from sparsify.naming import plural
from sparsify.sweeps.store import Claim, Outcome, Store
from sparsify.sweeps.trials import Sweep, Trial
from sparsify.sweeps.working import Runner, take

__all__ = ["run_on_ray"]

_LOOK = 0.3  # seconds
_ANSWER = 5.0  # seconds that a cluster has to answer; Ray itself would wait for minutes
_PATIENCE = 60.0  # seconds that interrupted tasks have to end their step


def run_on_ray(sweep: Sweep, address: str, jobs: int, on_trial: Callable[[], None] = lambda: None) -> None:
    """Run trials as tasks of a Ray cluster until all of the sweep are done.

    The command holds the store: it takes trials, hands them out, and writes down what comes back. Ray runs a task again
    whose worker was lost.

    Args:
        sweep: what to run.
        address: of the cluster, `auto` for the one that this machine belongs to, or `local` to start one here.
        jobs: how many tasks a local one runs at once.
        on_trial: called when trials are done.

    Raises:
        UsageError: Ray is not installed, or no machine of the cluster can run a trial.
        InputError: the cluster cannot be reached.
        KeyboardInterrupt: of Ctrl-C; trials that were not done wait for others.
    """
    with _connected(address, jobs * sweep.threads) as ray:
        tasks = _Tasks(ray, sweep, address)
        try:
            while True:
                tasks.start()
                if tasks.running:
                    tasks.look()
                elif tasks.store.open(sweep.trials):  # another command has them
                    time.sleep(_LOOK)
                else:
                    return
                on_trial()
        finally:
            tasks.end()


@contextlib.contextmanager
def _connected(address: str, cpus: int) -> Iterator[Any]:
    try:
        import ray
    except ImportError as error:
        raise UsageError("--ray needs Ray: pip install sparsify-fx[ray].") from error
    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address == "local":
            ray.init(address="local", num_cpus=cpus, **quiet)
        else:
            _knock(address)
            ray.init(address=address, **{**quiet, "include_dashboard": None})
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise InputError(f"--ray {address}: there is no such cluster: {first_line(error)}.") from error
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where Ray tells of workers that died; stdout may be JSON
            yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Fail where nobody listens at HOST:PORT, which `auto` takes from the environment."""
    place = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    host, colon, port = place.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER).close()


class _Tasks:
    """Tasks of a cluster that run, and the trials that each of them has.

    Args:
        ray: connected.
        sweep: what to run.
        address: of the cluster, for messages.
    """

    def __init__(self, ray: Any, sweep: Sweep, address: str) -> None:
        self._slots = _slots(ray.nodes(), sweep, address)
        self._ray, self._sweep, self._runner = ray, sweep, Runner(sweep)
        self._remote = ray.remote(num_cpus=sweep.threads, num_gpus=_gpus(sweep), max_retries=1)(_task)
        self._shared, self._here = ray.put(sweep), str(Path.cwd())
        self.store = Store(sweep.folder)
        self.running: dict[Any, list[Claim]] = {}

    def start(self) -> None:
        """Hand out trials while there is room for them."""
        while len(self.running) < self._slots and (claims := take(self.store, self._sweep, self._runner)):
            self._submit(claims)

    def look(self) -> None:
        """Write down what has come back for a moment."""
        done, _ = self._ray.wait(list(self.running), timeout=_LOOK)
        for reference in done:
            self._settle(self.running.pop(reference), reference)

    def end(self) -> None:
        """Let tasks that still run end their step, whose checkpoints others go on from, and put back what is left."""
        for reference in self.running:
            self._ray.cancel(reference)
        try:
            if self.running:
                done, _ = self._ray.wait(list(self.running), num_returns=len(self.running), timeout=_PATIENCE)
                for reference in done:
                    self._keep(reference)
        finally:
            for claims in self.running.values():
                for claim in claims:
                    self.store.put_back(claim)

    def _keep(self, reference: Any) -> None:
        """Write down what a task did that was done before it could be cancelled."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            outcomes: list[Outcome] | str = self._ray.get(reference)
            if not isinstance(outcomes, str):
                for claim, outcome in zip(self.running.pop(reference), outcomes, strict=True):
                    self.store.settle(claim, outcome)

    def _submit(self, claims: list[Claim], why: str = "") -> None:
        trials = [claim.trial for claim in claims]
        self.running[self._remote.remote(self._shared, trials, self._here, why)] = claims

    def _settle(self, claims: list[Claim], reference: Any) -> None:
        try:
            outcomes: list[Outcome] | str = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            outcomes = [_lost(error, claim.trial) for claim in claims]
        if isinstance(outcomes, str):  # one task for each: what one of them has done, another cannot lose
            for claim in claims:
                self._submit([claim], outcomes)
            return
        for claim, outcome in zip(claims, outcomes, strict=True):
            self.store.settle(claim, outcome)


def _gpus(sweep: Sweep) -> int:
    return 1 if sweep.device.startswith("cuda") else 0


def _slots(nodes: Sequence[dict[str, Any]], sweep: Sweep, address: str) -> int:
    """Return how many trials the machines of a cluster can run at once.

    Raises:
        UsageError: none; Ray would wait for ever for a machine that can.
    """
    gpus, room = _gpus(sweep), 0
    for node in nodes:
        if node["Alive"]:
            cpus = int(node["Resources"].get("CPU", 0)) // sweep.threads
            room += min(cpus, int(node["Resources"].get("GPU", 0))) if gpus else cpus
    if room:
        return room
    needed = f"{plural(sweep.threads, 'processor')} (--threads)" + (" and a GPU (--device)" if gpus else "")
    raise UsageError(f"--ray {address}: a trial needs {needed}, and no machine of the cluster has that.")


def _lost(error: Exception, trial: Trial) -> Outcome:
    """Return what becomes of a trial whose task gave no outcome."""
    cause = getattr(error, "cause", None)
    if cause is not None:  # the task itself failed, such as in a folder that its machine does not see
        text = f"on Ray: {type(cause).__name__}: {first_line(cause)}"
    else:
        text = (
            f"the Ray worker that ran it died, and the one that tried it again, too ({type(error).__name__}), as where "
            "memory is short or a machine is gone; the same command tries it again"
        )
    return {"error": text, "trace": f"The trial: {trial.command}\nRay says: {error}\n"}


_runners: dict[str, Runner] = {}  # of this process, which Ray uses for many tasks


def _task(sweep: Sweep, trials: Sequence[Trial], here: str, why: str) -> list[Outcome] | str:
    """Run trials in a process of the cluster, from the folder that the paths of the sweep start from.

    Several are run at once; where they cannot be, why not is returned.
    """
    os.chdir(here)
    torch.set_num_threads(sweep.threads)
    runner = _runners.setdefault(str(sweep.folder), Runner(sweep))
    return runner.together(trials) if len(trials) > 1 else [runner.alone(trials[0], why)]
