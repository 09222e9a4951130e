"""How long each module of a program takes, operator by operator in PyTorch.

The times are those of operators that wait for each other, with what Python takes to call them. A runtime that fuses
operators or runs them side by side divides its time otherwise; use them to see where the time goes, not how much it is.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from sparsify.inputs import with_batch
from sparsify.naming import module_of
from sparsify.program import Program

__all__ = ["REST", "module_times", "owners"]

REST = ""
"""Stands for the operators that read no parameter."""

_WARM_UP = 2
_LEAST, _MOST = 5, 50  # runs


def module_times(programs: Sequence[Program], seconds: float = 4.0) -> list[dict[str, float]]:
    """Time the modules of programs, which run in turns on a batch of one where their batch size is open.

    Args:
        programs: what to run.
        seconds: how long it may take in all, once each has had its least number of runs.

    Returns:
        For each program the median milliseconds of every module that holds parameters, and of the rest under `REST`.
    """
    timed = [_Timed(program) for program in programs]
    for item in timed:
        for _ in range(_WARM_UP):
            item.once()
        item.samples.clear()
    end = time.perf_counter() + seconds
    while len(timed[0].samples) < _LEAST or (len(timed[0].samples) < _MOST and time.perf_counter() < end):
        for item in timed:
            item.once()
    return [item.medians() for item in timed]


def owners(graph: fx.Graph, parameters: Sequence[str]) -> dict[str, str]:
    """Return for each operator of a graph the module whose parameters it reads; of several the first, of none `REST`.

    What makes a weight of others (masks, factors) belongs to the module as well.
    """
    known, found = set(parameters), dict[str, str]()
    made: set[str] = set()  # values that are made of parameters alone
    for node in graph.nodes:
        if node.op == "get_attr":
            name = str(node.target)
            found[node.name] = module_of(name) if name in known else REST
            made.add(node.name)
        elif node.op == "call_function":
            sources = [source.name for source in node.all_input_nodes]
            weights = [found[name] for name in sources if name in made and found[name] != REST]
            found[node.name] = weights[0] if weights else REST
            if sources and made.issuperset(sources):
                made.add(node.name)
    return found


class _Timed(fx.Interpreter):
    """A program that notes how long its operators take."""

    def __init__(self, program: Program) -> None:
        module = program.module(training=False, copy=False)
        super().__init__(module)
        self._leaves = with_batch(program, 1)
        self._wait = any(isinstance(leaf, Tensor) and leaf.is_cuda for leaf in self._leaves)
        self._owners = owners(module.graph, list(program.parameters))
        self._found: dict[str, float] = {}
        self.samples: list[dict[str, float]] = []

    def once(self) -> None:
        """Run the program once."""
        self._found = {}
        with torch.inference_mode():
            self.run(*self._leaves, enable_io_processing=False)
        self.samples.append(self._found)

    def run_node(self, n: fx.Node) -> Any:
        """Run an operator and note its time."""
        if n.op != "call_function":
            return super().run_node(n)
        start = time.perf_counter()
        result = super().run_node(n)
        if self._wait:
            torch.cuda.synchronize()
        owner = self._owners[n.name]
        self._found[owner] = self._found.get(owner, 0.0) + 1e3 * (time.perf_counter() - start)
        return result

    def medians(self) -> dict[str, float]:
        """Return the median time of each module."""
        return {name: statistics.median(sample[name] for sample in self.samples) for name in self.samples[0]}
