"""How long each module of a program takes, operator by operator in PyTorch.

The times are those of operators that wait for each other, with what Python takes to call them. A runtime that fuses
operators or runs them side by side divides its time otherwise; use them to see where the time goes, not how much it is.
Of every operator the least time counts: threads that have to wake up, and other processes, only ever add to it. All but
large models run on one thread: on a busy machine, waiting for a second one takes a thousand times as long as a small
operator.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx

from sparsify.cost import macs_by_node
from sparsify.inputs import with_batch
from sparsify.naming import module_of
from sparsify.program import Program

__all__ = ["REST", "module_times", "owners"]

REST = ""
"""Stands for the operators that read no parameter."""

_WARM_UP = 2
_LEAST, _ENOUGH = 5, 50  # runs
_BRIEF = 0.5  # seconds that runs are spread over, so that not all of them meet the same other process
_LARGE = 5_000_000_000  # multiply-accumulates: one thread would take longer than there is time for


def module_times(programs: Sequence[Program], seconds: float = 4.0) -> list[dict[str, float]]:
    """Time the modules of programs, which run in turns on a batch of one where their batch size is open.

    Args:
        programs: what to run.
        seconds: how long it may take in all, once each has had its least number of runs.

    Returns:
        For each program the milliseconds of every module that holds parameters, and of the rest under `REST`: sums of
        the least time of each operator.
    """
    timed = [_Timed(program) for program in programs]
    large = any(sum(macs_by_node(program).values()) > _LARGE for program in programs)
    with _threads(torch.get_num_threads() if large else 1):
        for item in timed:
            for _ in range(_WARM_UP):
                item.once()
            item.least.clear()
        start, runs = time.perf_counter(), 0
        while runs < _LEAST or _goes_on(runs, time.perf_counter() - start, seconds):
            for item in timed:
                item.once()
            runs += 1
    return [item.times() for item in timed]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _goes_on(runs: int, spent: float, seconds: float) -> bool:
    return spent < seconds and (runs < _ENOUGH or spent < _BRIEF)


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
        self.least: dict[str, float] = {}  # milliseconds of each operator

    def once(self) -> None:
        """Run the program once."""
        with torch.inference_mode():
            self.run(*self._leaves, enable_io_processing=False)

    def run_node(self, n: fx.Node) -> Any:
        """Run an operator and note its time."""
        if n.op != "call_function":
            return super().run_node(n)
        start = time.perf_counter()
        result = super().run_node(n)
        if self._wait:
            torch.cuda.synchronize()
        spent = 1e3 * (time.perf_counter() - start)
        self.least[n.name] = min(spent, self.least.get(n.name, spent))
        return result

    def times(self) -> dict[str, float]:
        """Return the time of each module."""
        found: dict[str, float] = defaultdict(float)
        for name, spent in self.least.items():
            found[self._owners[name]] += spent
        return dict(found)
