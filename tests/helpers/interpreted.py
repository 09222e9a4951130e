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


def on_gpu(name, *given, upstream=None, way=None):
    """Return what an operator computes where it believes that it is on a GPU: its output, and all gradients.

    Args:
        name: of the operator.
        given: its arguments; those that need gradients get them if there is an upstream one.
        upstream: the gradient of the output.
        way: that it must take; it chooses if not given.
    """
    return _pool().submit(_on_gpu, name, given, upstream, way).result()


def _on_gpu(name, given, upstream, way):
    import torch

    from sparsify.kernels import _on_gpu as choice

    operator = getattr(importlib.import_module(f"sparsify.kernels.{name}"), name)
    used = []
    best = choice.best

    def chosen(key, device, ways):
        used.append((key, list(ways)))
        return best(key, device, ways) if way is None else ways[way]()

    with (
        mock.patch.object(choice, "usable", return_value=True),
        mock.patch.object(choice, "best", chosen),
    ):
        leaves = [leaf.detach().requires_grad_(leaf.requires_grad) if isinstance(leaf, torch.Tensor) else leaf
                  for leaf in given]  # fmt: skip
        out = operator(*leaves)
        if upstream is not None:
            out.backward(upstream)
    grads = [leaf.grad if isinstance(leaf, torch.Tensor) else None for leaf in leaves]
    return out.detach(), grads, used


def _call(name, function, given, named):
    return getattr(importlib.import_module(f"sparsify.kernels.{name}"), function)(*given, **named)


@functools.cache
def _pool():
    with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
        pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        pool.submit(int).result()  # the process starts now, in this environment
    atexit.register(pool.shutdown)
    return pool
