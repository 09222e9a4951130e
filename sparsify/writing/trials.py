"""Trials: run a model beside a program, and see how far it comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils import _pytree as pytree

from sparsify import verify
from sparsify.modes import in_mode
from sparsify.program import Program

__all__ = ["Outcome", "Trials"]


@dataclass(frozen=True)
class Outcome:
    """How far a model came.

    Attributes:
        done: how many inputs came out right, and how many modules had been run for the next one.
        running: the modules that were being run when it failed, the innermost last.
        error: why it failed.
        gap: how much its outputs differ, if it did not fail.
    """

    done: tuple[float, int]
    running: tuple[nn.Module, ...] = ()
    error: Exception | None = None
    gap: float = 0.0

    @property
    def right(self) -> bool:
        """Whether the model computes what the program does."""
        return self.error is None and self.gap == 0


class Trials:
    """Runs a model beside a program, on its example and on inputs of another batch size.

    Args:
        program: what the model should compute.
        model: run as it is at the time, and left so.
    """

    def __init__(self, program: Program, model: nn.Module) -> None:
        self._model = model
        structure = pytree.tree_structure((program.example.args, dict(program.example.kwargs)))
        self._cases = [
            (pytree.tree_unflatten(leaves, structure), verify.outputs(program, leaves))
            for leaves in verify.trial_inputs(program)
        ]

    def run(self) -> Outcome:
        """Run the model in evaluation mode on copies of its buffers and of the inputs, until it fails."""
        for number, (inputs, expected) in enumerate(self._cases):
            buffers = {name: value.clone() for name, value in self._model.named_buffers()}
            args, kwargs = verify.copied(inputs)
            with _watched() as calls, in_mode(self._model, False), torch.no_grad():
                try:
                    found = torch.func.functional_call(self._model, buffers, args, kwargs)
                except Exception as error:  # noqa: BLE001 -- whatever the user's code raises: the sizes do not fit
                    return Outcome((number, calls.count), tuple(calls.running), error)
            if gap := _gap(expected, pytree.tree_leaves(found)):
                return Outcome((number, calls.count), gap=gap)
        return Outcome((float("inf"), 0))


def _gap(expected: Sequence[Any], found: Sequence[Any]) -> float:
    """Return the largest difference that rounding does not explain, or zero."""
    if len(expected) != len(found):
        return float("inf")
    gaps = [(verify.difference(a, b), verify.tolerance(a)) for a, b in zip(expected, found, strict=True)]
    return max((gap for gap, allowed in gaps if not gap <= allowed), default=0.0)


class _Calls:
    def __init__(self) -> None:
        self.count = 0
        self.running: list[nn.Module] = []

    def start(self, module: nn.Module, args: Any) -> None:
        self.running.append(module)

    def end(self, module: nn.Module, args: Any, result: Any) -> None:
        self.running.pop()
        self.count += 1


@contextmanager
def _watched() -> Iterator[_Calls]:
    """Follow which modules are run; the modules themselves are not touched."""
    calls = _Calls()
    handles = [register_module_forward_pre_hook(calls.start), register_module_forward_hook(calls.end)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
