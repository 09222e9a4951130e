"""Workers: processes that run the trials of a sweep side by side."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from sparsify.errors import SparsifyError
from sparsify.sweeps.store import Store
from sparsify.sweeps.trials import Sweep
from sparsify.sweeps.working import run_here

__all__ = ["run_in_processes"]

_LOOK = 0.3  # seconds between looks at how far they are


def run_in_processes(sweep: Sweep, jobs: int, on_trial: Callable[[], None] = lambda: None) -> None:
    """Run trials in several processes until all of the sweep are done.

    A worker that is killed costs its trial, which another one runs again. Ctrl-C lets all of them end their step.

    Args:
        sweep: what to run.
        jobs: how many processes.
        on_trial: called now and then, to show how far they are.

    Raises:
        SparsifyError: the workers cannot start.
        KeyboardInterrupt: of Ctrl-C; trials that were not done wait for others.
    """
    context = multiprocessing.get_context("forkserver")  # torch is imported once, and no thread of it is forked
    context.set_forkserver_preload(["sparsify.sweeps.working"])
    store = Store(sweep.folder)
    while store.open(sweep.trials):  # where all were killed at once, others go on
        workers = [context.Process(target=_work, args=(sweep,)) for _ in range(jobs)]
        try:
            for worker in workers:
                worker.start()
            while any(worker.is_alive() for worker in workers):
                wait([worker.sentinel for worker in workers if worker.is_alive()], timeout=_LOOK)
                on_trial()
        finally:
            _end(workers)
        if all(worker.exitcode == 1 for worker in workers):
            raise SparsifyError(f"The workers of the sweep in {sweep.folder} failed; what they say is above.")
    on_trial()


def _end(workers: Sequence[BaseProcess]) -> None:
    """Let those that still work end as Ctrl-C lets them."""
    for worker in workers:
        if worker.pid is not None and worker.is_alive():
            os.kill(worker.pid, signal.SIGINT)
    for worker in workers:
        if worker.pid is not None:
            worker.join()


def _work(sweep: Sweep) -> None:
    os.setpgid(0, 0)  # a terminal's Ctrl-C goes to the command alone, which passes it on: twice would mean at once
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_follow, daemon=True).start()
    try:
        run_here(sweep)
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None


def _follow() -> None:
    """End with the command, however it ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGINT)
