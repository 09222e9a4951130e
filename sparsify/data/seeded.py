"""Seeded: a loader that gives the same batches for the same seed, although it draws from global generators."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

__all__ = ["Seeded"]

_END = object()


@dataclass(frozen=True)
class Seeded:
    """One way through a loader; every iteration is the same as far as the loader draws what is random here.

    While the loader works, the global generators of torch (on the CPU), numpy and Python are in a state that follows
    from the seed; in between they are as they were. Generators that the loader or its sampler was given start from the
    seed, too, and stay changed; what has a `set_epoch` is told the seed.

    Attributes:
        loader: a DataLoader, or anything else that can be gone through more than once.
        seed: of everything random.
    """

    loader: Any
    seed: int

    def __len__(self) -> int:
        """Return the number of batches; TypeError if the loader does not know it."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        """Go through the batches; other mappings than dictionaries become dictionaries."""
        for part in _parts(self.loader):
            if isinstance(generator := getattr(part, "generator", None), torch.Generator):
                generator.manual_seed(self.seed)
            if callable(set_epoch := getattr(part, "set_epoch", None)):
                set_epoch(self.seed)
        own = _Generators()
        with own.in_place():
            torch.default_generator.manual_seed(self.seed)
            np.random.seed(self.seed % 2**32)
            random.seed(self.seed)
            batches = iter(self.loader)
        while True:
            with own.in_place():
                batch = next(batches, _END)
            if batch is _END:
                return
            yield dict(batch) if isinstance(batch, Mapping) else batch


class _Generators:
    """The states of the global generators, for the times when the loader works."""

    def __init__(self) -> None:
        self._states = self._read()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        before = self._read()
        self._write(self._states)
        try:
            yield
        finally:
            self._states = self._read()
            self._write(before)

    @staticmethod
    def _read() -> tuple[torch.Tensor, Any, Any]:
        return torch.get_rng_state(), np.random.get_state(), random.getstate()

    @staticmethod
    def _write(states: tuple[torch.Tensor, Any, Any]) -> None:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def _parts(loader: Any) -> list[Any]:
    """Return what of a loader may draw the order."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    samplers = [getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)]
    return [loader, *samplers, getattr(loader, "dataset", None)]
