"""Running a compiled function on the threads that torch computes with."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

__all__ = ["run", "task_of"]

_PROCESS = os.getpid()


def run(function: int, task: ctypes.Array[ctypes.c_int64], threads: int) -> None:
    """Call a C function `void(void *)` with a task, once on each of several threads, and wait for all of them.

    Where torch computes with OpenMP its threads are used: they are awake between two operators, and no others compete
    with them. OpenMP does not survive a fork; in a forked process, and where there is none, Python's threads are used.

    Args:
        function: its address. The task must get done also if some of the threads come late.
        task: what it is given.
        threads: how many.
    """
    if threads == 1:
        _callable(function)(task)
    elif os.getpid() == _PROCESS and (parallel := _openmp()) is not None:
        parallel(function, task, threads, 0)
    else:
        list(_pool(os.getpid(), threads).map(_callable(function), [task] * threads))


def task_of(given: Sequence[int], more: int) -> ctypes.Array[ctypes.c_int64]:
    """Return a task of some numbers, and so many zeros behind them."""
    task = (ctypes.c_int64 * (len(given) + more))()
    task[: len(given)] = [*given]  # arguments of the array would take twice as long
    return task


@functools.cache
def _openmp() -> Callable[..., None] | None:
    """Return what begins a parallel region in the OpenMP that torch brings along."""
    for library in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"):
        try:
            found = ctypes.CDLL(str(library)).GOMP_parallel
        except (OSError, AttributeError):
            continue
        found.argtypes, found.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
        parallel: Callable[..., None] = found
        return parallel
    return None


@functools.cache
def _callable(function: int) -> Callable[..., None]:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return threads of Python's; a forked process has none of its parent's."""
    return ThreadPoolExecutor(threads)
