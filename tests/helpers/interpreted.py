"""Triton kernels as Triton's interpreter runs them: in a process of their own, because a process has it on or off."""

import atexit
import functools
import importlib
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from unittest import mock


class Interpreted:
    """A module of kernels whose functions are called in that process."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, function):
        found = getattr(importlib.import_module(f"sparsify.kernels.{self._name}"), function)
        if isinstance(found, type):
            return found
        return lambda *given, **named: _pool().submit(_call, self._name, function, given, named).result()


def _call(name, function, given, named):
    return getattr(importlib.import_module(f"sparsify.kernels.{name}"), function)(*given, **named)


@functools.cache
def _pool():
    with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
        pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        pool.submit(int).result()  # the process starts now, in this environment
    atexit.register(pool.shutdown)
    return pool
