"""A network with scores: its weights are drawn and fixed, its scores are parameters of the graph."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from sparsify.embedding import Embedding, embedded
from sparsify.layout import Layout
from sparsify.program import Program
from sparsify.strong import Scoring
from sparsify.tickets.initialization import initial

__all__ = ["Network"]


class Network:
    """Weights to choose from, and scores that choose.

    Args:
        program: is not changed.
        way: what scores say.
        layouts: of the weights that get scores.
        fixed: whether a parameter stays as the program has it, by its name.
        trained: whether a parameter is trained as usual, by its name.
        seed: of all that is drawn.

    Attributes:
        start: the plain program before the training; where a weight has several values, with the first of them.
        program: what is trained: scores in the graph, in which everything else but what is trained as usual is fixed.
        scores: by the name of a weight, that of its scores in the program.
    """

    def __init__(
        self, program: Program, way: Scoring, layouts: Mapping[str, Layout], *,
        fixed: Callable[[str], bool], trained: Callable[[str], bool], seed: int,
    ) -> None:  # fmt: skip
        self._given, self._way, self._fixed, self._seed = program, way, fixed, seed
        self._names = list(layouts)
        self.start = self._drawn(0)
        taken = {*program.parameters, *program.buffers}
        self.scores = {name: _free(f"{name}_scores", taken) for name in layouts}
        self._values = {name: _free(f"{name}_values", taken) if way.draws > 1 else name for name in layouts}
        values = {name: self.start.parameters[name].detach() for name in layouts}
        if way.draws > 1:
            draws = [self.start, *(self._drawn(index) for index in range(1, way.draws))]
            values = {name: torch.stack([one.parameters[name].detach() for one in draws]) for name in layouts}
        scores = {}
        for name, layout in layouts.items():
            value, generator = values[name], self._generator(f"{seed} {name} scores")
            found = way.scores(value.cpu(), layout.sizes(program.parameters[name].shape)[2], generator)
            scores[self.scores[name]] = found.to(value.device, value.dtype)
        still = {
            name: _parameter(value, value.requires_grad and trained(name))
            for name, value in self.start.parameters.items()
        }
        made = {name: Embedding(way.weight, (self._values[name], self.scores[name]), traced=False) for name in layouts}
        buffers = {self._values[name]: values[name] for name in layouts} if way.draws > 1 else {}
        self.program = embedded(replace(self.start, parameters=still), made, trainable=scores, fixed=buffers)

    def renew(self, step: int, module: nn.Module) -> None:
        """Draw some of what the live module of the program leaves out anew."""
        state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        fresh = self._drawn(step).parameters
        with torch.no_grad():
            for name in self._names:
                generator = self._generator(f"{self._seed} {name} places {step}")
                weight = state[name]
                weight.copy_(self._way.renewed(weight, state[self.scores[name]], fresh[name], generator))

    def plain(self, trained: Program) -> tuple[Program, Mapping[str, Tensor]]:
        """Return the network that the scores of the trained program say, without masks, and the masks of it."""
        state = {**self.start.parameters, **self.start.buffers, **trained.parameters, **trained.buffers}
        masks = {}
        for name in self._names:
            values, scores = state[self._values[name]].detach(), state[self.scores[name]].detach()
            state[name], mask = self._way.result(values, scores)
            if mask is not None:
                masks[name] = mask
        given = self._given.parameters
        parameters = {name: _parameter(state[name].clone(), value.requires_grad) for name, value in given.items()}
        buffers = {name: state[name] for name in self.start.buffers}
        return replace(self.start, parameters=parameters, buffers=buffers), masks

    def _drawn(self, index: int) -> Program:
        """Return the program with weights of a draw."""
        init = self._way.init
        if init == "given":
            return self._given
        drawn = initial(self._given, self._seed + 1_000_003 * index, init)
        parameters = dict(drawn.parameters)
        for name, value in self._given.parameters.items():
            if self._fixed(name):
                parameters[name] = value
            elif name in self._names:
                parameters[name] = self._way.begin(parameters[name].detach())
        return replace(drawn, parameters=parameters)

    @staticmethod
    def _generator(text: str) -> torch.Generator:
        return torch.Generator().manual_seed(zlib.crc32(text.encode()))


def _parameter(value: Tensor, trained: bool) -> nn.Parameter:
    return nn.Parameter(value.detach(), requires_grad=trained)


def _free(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name
