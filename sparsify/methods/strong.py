"""Strong lottery tickets: a network is found among random weights, by training scores and no weight."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeAlias

from torch import Tensor

from sparsify import registry
from sparsify.batches import epoch_length
from sparsify.embedding import embedded_names
from sparsify.errors import OptionError, PassError, UsageError
from sparsify.freezing import check_seed
from sparsify.layout import Layout
from sparsify.masking import masked
from sparsify.naming import first_are, first_names, plural
from sparsify.program import Program
from sparsify.pruning.candidates import candidates, check_patterns, matches
from sparsify.schedules import parse_steps
from sparsify.strong import Draw, Scoring
from sparsify.strong._network import Network
from sparsify.task import Task
from sparsify.training.train import Trained
from sparsify.training.train_options import TrainOptions
from sparsify.training.watch import StepEvent, Watch
from sparsify.training.work import Work

__all__ = ["Strong"]

Way: TypeAlias = Literal["edge-popup", "supermask", "biprop", "signed", "iterand", "slot-machines", "piggyback"]

_PACKAGE = "sparsify.strong"
_OPTIONS = ("init", "learning_rate", "sparsity", "rescale", "threshold", "values", "every", "share")


@dataclass(frozen=True)
class Strong(TrainOptions):
    """Train scores and no weight: they say which of its weights a layer keeps, with which sign, or which value.

    Biases and the scales of norms are neither trained nor scored. The result is a plain network: weights as they were
    drawn, with masks; with biprop, signed and slot-machines the weights that were chosen.

    Attributes:
        steps: length of the run, `500it` or `10ep`.
        learning_rate: its highest value; each method has its own, for adamw.
        optimizer: sgd (with momentum) or adamw, whose steps fit scores of all sizes: those of supermask have gradients
            a tenth as large as those of edge-popup.
        method: what scores say about weights.
        init: how weights are drawn before the training; given keeps those of the program; each method has its own.
        sparsity: which fraction of every layer is zero, an exact number of weights.
        rescale: multiply what is kept by what makes up for the rest.
        threshold: of the scores.
        values: how many values each weight has to choose from.
        every: steps between two draws of what is left out, `300it` or `1ep`.
        share: which share of what is left out is drawn anew.
        train: names or patterns of modules and parameters that are trained as usual beside the scores; none has one.
        protect: names or patterns of modules and parameters that stay as they are.

    Reference: Ramanujan et al., "What's Hidden in a Randomly Weighted Neural Network?", 2020; `sparsify/strong` names
    the sources of the others.

    Raises:
        UsageError: a value is out of its range, or the method does not take an option.
    """

    refuses: ClassVar[tuple[str, ...]] = ("compact",)

    steps: str = "20ep"
    learning_rate: float | None = None  # type: ignore[assignment]  # before the training it is that of the method
    optimizer: Literal["sgd", "adamw"] = "adamw"
    method: Way = "edge-popup"
    init: Draw | None = None
    sparsity: float | None = None
    rescale: bool | None = None
    threshold: float | None = None
    values: int | None = None
    every: str | None = None
    share: float | None = None
    train: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        known = registry.entries(_PACKAGE)
        takes = {name: [option.name for option in entry.options] for name, entry in known.items()}
        for name in _OPTIONS:
            methods = [method for method in takes if name in takes[method]]
            if getattr(self, name) is not None and self.method not in methods:
                verb = "takes" if len(methods) == 1 else "take"
                raise UsageError(f"strong: method={self.method} has no {name}; {', '.join(methods)} {verb} it.")
        _require(self.sparsity is None or 0 < self.sparsity < 1, f"sparsity={self.sparsity} is not between 0 and 1")
        _require(self.share is None or 0 < self.share <= 1, f"share={self.share} is not in (0, 1]")
        _require(self.threshold is None or self.threshold > 0, f"threshold={self.threshold} is not positive")
        _require(self.values is None or self.values > 1, f"values={self.values} leaves no choice; give 2 or more")
        _require(self.every is None or parse_steps(self.every, 1) > 0, f"every={self.every} is no pace")
        _require(self.init != "given" or self.method not in ("iterand", "slot-machines"),
                 f"method={self.method} draws weights more than once, and init=given says not how; init=shuffle draws "
                 "them among those of the program")  # fmt: skip

    def retrain(self, program: Program, task: Task, *, seed: int, work: Work) -> Trained:
        """Train the scores, and write out what they say."""
        check_seed(seed)
        way = self._way()
        options = replace(self, learning_rate=way.learning_rate)
        network = Network(
            program, way, self._scored(program), seed=seed,
            fixed=lambda name: matches(name, self.protect), trained=lambda name: matches(name, self.train),
        )  # fmt: skip
        watch = self._redraws(network, task, work)
        trained = work.train("strong", network.program, task, options, seed=seed, watch=watch)
        plain, masks = network.plain(trained.program)
        if empty := [name for name, mask in masks.items() if not mask.any()]:
            work.warn(
                f"The scores leave out all weights of {first_names(empty)}: nothing passes there. A lower "
                "learning_rate= or weight_decay=, or protect=, keeps layers alive."
            )
        record = {"method": self.method, "options": dataclasses.asdict(way), **_told(network, masks)}
        return replace(trained, program=masked(plain, masks), record={"strong": record})

    def _redraws(self, network: Network, task: Task, work: Work) -> Watch | None:
        """Return what draws weights anew, if the method does."""
        text = getattr(self._way(), "every", None)
        if text is None:
            return None
        every, steps = (parse_steps(words, lambda: epoch_length(task)) for words in (text, self.steps))
        if every >= steps:
            work.warn(f"No weight is drawn anew: every={text} is not shorter than {plural(steps, 'step')}.")
        return _Redraws(network, every)

    def _way(self) -> Scoring:
        entry = registry.find(_PACKAGE, self.method)
        given = {name: getattr(self, name) for name in _OPTIONS if getattr(self, name) is not None}
        way: Scoring = getattr(importlib.import_module(entry.module), entry.class_name)(**given)
        return way

    def _scored(self, program: Program) -> Mapping[str, Layout]:
        """Return how the weights that get scores are read.

        Raises:
            PassError: there are none, or a pattern matches nothing.
            OptionError: one of them is masked or embedded already.
        """
        try:
            check_patterns("train", self.train, program)
            layouts = candidates(program, protect=(*self.protect, *self.train)).layouts
        except PassError as error:
            raise PassError(f"strong: {error}") from None
        taken = [name for name in layouts if name in {*program.masks, *program.frozen, *embedded_names(program)}]
        if taken:
            raise OptionError(
                f"strong: {first_are(taken)} masked, frozen or made of others already, and scores choose among "
                "all weights of a layer. Take the network as it was before, or protect= it."
            )
        return layouts


class _Redraws:
    """Draws weights of the live module anew every so many steps; the step decides which, so there is no memory."""

    ended = False

    def __init__(self, network: Network, every: int) -> None:
        self._network, self._every = network, every

    def look(self, event: StepEvent) -> None:
        """Draw, if it is time; not behind the last step."""
        if event.step % self._every == 0 and event.step < event.steps:
            self._network.renew(event.step, event.module)

    def state(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Remember nothing."""


def _told(network: Network, masks: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what a report says: how many scores were trained, and what is kept of every layer."""
    weights = {name: network.start.parameters[name].numel() for name in network.scores}
    kept = {name: int(masks[name].sum()) if name in masks else count for name, count in weights.items()}
    scores = [network.program.parameters[name].numel() for name in network.scores.values()]
    others = [value.numel() for name, value in network.program.parameters.items()
              if value.requires_grad and name not in network.scores.values()]  # fmt: skip
    return {
        "scores": sum(scores), "trained_besides": sum(others), "weights": sum(weights.values()),
        "kept": sum(kept.values()), "density": sum(kept.values()) / sum(weights.values()),
        "layers": {name: {"weights": weights[name], "kept": kept[name],
                          "sparsity": round(1 - kept[name] / weights[name], 6)} for name in weights},
    }  # fmt: skip


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise UsageError(f"strong: {otherwise}.")
