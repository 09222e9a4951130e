"""Choosing: in which format a layer is fastest or smallest, or that it had better stay dense."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from sparsify.formats import Format
from sparsify.formats.bitmask import Bitmask
from sparsify.formats.block import BlockRows
from sparsify.formats.index import Index
from sparsify.formats.nm import Nm
from sparsify.inputs import with_batch
from sparsify.kernels import _on_gpu
from sparsify.kernels._timing import least
from sparsify.lowering.rewriting import alone
from sparsify.lowering.sites import Site
from sparsify.masking import baked
from sparsify.program import Program
from sparsify.verify import copied

__all__ = ["Choice", "candidates", "fastest", "smallest", "whole"]

_SIDES = (128, 64, 32)  # of tiles that are tried
_FULL = 0.9  # share of its stored weights that a mask of tiles keeps
_GAIN = 0.97  # a format must take less than this share of the time of dense: measurements are not exact


@dataclass(frozen=True)
class Choice:
    """What became of a layer.

    Attributes:
        kind: the format: index, bitmask, a pattern such as 2:4 or block64; or dense.
        format: the weight in it; None if dense.
        measured: by format what was compared: milliseconds or bytes.
    """

    kind: str
    format: Format | None
    measured: Mapping[str, float] = field(default_factory=dict)


def candidates(weight: Tensor, mask: Tensor) -> dict[str, Callable[[], Format]]:
    """Return the formats that a matrix `[N, K]` fits, by name."""
    found: dict[str, Callable[[], Format]] = {
        "index": lambda: Index.encode(weight, mask),
        "bitmask": lambda: Bitmask.encode(weight, mask),
    }
    if _two_of_four(mask):
        found["2:4"] = lambda: Nm.encode(weight, mask, 2, 4)
    for side in _SIDES:
        tiles = BlockRows.encode(weight, mask, side, side)
        if int(mask.sum()) >= _FULL * max(1, tiles.values.numel()) and tiles.values.numel() < mask.numel():
            found[f"block{side}"] = lambda tiles=tiles: tiles  # type: ignore[misc]
            break
    return found


def smallest(site: Site, program: Program) -> Choice:
    """Return the format in which a weight takes the fewest bytes."""
    weight, mask = _matrices(site, program)
    made = {kind: encode() for kind, encode in candidates(weight, mask).items()}
    sizes = {"dense": float(weight.nbytes), **{kind: float(found.nbytes) for kind, found in made.items()}}
    best = min(sizes, key=sizes.__getitem__)
    return Choice(best, made.get(best), sizes)


def fastest(program: Program, sites: Collection[Site], batch: int | None) -> Iterator[tuple[Site, Choice]]:
    """Measure the layers of each site on what the program's example gives them; yield the fastest format of each.

    Args:
        program: with masks.
        sites: that can be lowered.
        batch: how many examples the batch has; as many as the program's example has if None.
    """
    given = _Given(baked(program), {node.name for site in sites for node in site.nodes})
    arguments = given.of(program.example.leaves() if batch is None else with_batch(program, batch))
    for site in sites:
        weight, mask = _matrices(site, program)
        made = {kind: encode() for kind, encode in candidates(weight, mask).items()}
        times = _times(program, site, made, arguments)
        best = min(times, key=lambda kind: times[kind] if kind == "dense" else times[kind] / _GAIN)
        yield site, Choice(best, made.get(best), times)


def whole(before: Program, after: Program, batch: int | None) -> dict[str, float]:
    """Return the milliseconds that a program takes dense and lowered."""
    leaves = before.example.leaves() if batch is None else with_batch(before, batch)
    runs = [fx.Interpreter(program.module(copy=False)) for program in (before, after)]
    dense, low = (lambda run=run: run.run(*copied(leaves), enable_io_processing=False) for run in runs)
    device = next(iter(before.parameters.values())).device
    with torch.no_grad():
        return least({"dense": dense, "lowered": low}, device, turns=3)


def _matrices(site: Site, program: Program) -> tuple[Tensor, Tensor]:
    weight, mask = program.parameters[site.name].detach(), program.masks[site.name]
    return site.matrix(weight), site.matrix(mask)


def _two_of_four(mask: Tensor) -> bool:
    if mask.shape[1] % 4:
        mask = torch.nn.functional.pad(mask, (0, -mask.shape[1] % 4))
    return bool((mask.view(mask.shape[0], -1, 4).sum(2) <= 2).all())


def _times(
    program: Program, site: Site, made: Mapping[str, Format], arguments: Mapping[str, tuple[Any, ...]]
) -> dict[str, float]:
    """Return the milliseconds that all layers of a site take in each format, and dense."""
    total: dict[str, float] = {}
    for node in site.nodes:
        args = arguments[node.name]
        calls: dict[str, Callable[[], object]] = {"dense": lambda node=node, args=args: node.target(*args)}  # type: ignore[misc]
        for kind, found in made.items():
            layer = alone(node, site, found)
            calls[kind] = lambda layer=layer, args=args: layer(*args)  # type: ignore[misc]
        device = next(value.device for value in args if isinstance(value, Tensor))
        with torch.no_grad(), _on_gpu.tuning():
            for call in calls.values():  # a GPU chooses among its kernels now
                call()
            for kind, time in least(calls, device).items():
                total[kind] = total.get(kind, 0.0) + time
    return total


class _Given(fx.Interpreter):
    """Runs a program and keeps what some of its nodes are given."""

    def __init__(self, program: Program, names: Collection[str]) -> None:
        super().__init__(program.module(copy=False))
        self._names, self._found = names, dict[str, tuple[Any, ...]]()

    def of(self, leaves: list[Any]) -> dict[str, tuple[Any, ...]]:
        """Return the arguments by node, for flat inputs."""
        with torch.no_grad():
            self.run(*copied(leaves), enable_io_processing=False)
        return self._found

    def run_node(self, n: fx.Node) -> Any:
        """Run a node."""
        if n.name in self._names:
            self._found[n.name] = self.fetch_args_kwargs_from_env(n)[0]
        return super().run_node(n)
