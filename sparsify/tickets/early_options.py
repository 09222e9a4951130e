"""Options of early-bird: what is pruned, when a mask is stable, and what is trained behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sparsify.errors import UsageError
from sparsify.pruning.choice import made
from sparsify.schedules import parse_steps
from sparsify.training.train_options import TrainOptions

__all__ = ["EarlyOptions"]

_CRITERIA = {"channels": "norm-scale", "weights": "magnitude"}


@dataclass(frozen=True)
class EarlyOptions(TrainOptions):
    """How to look for an early-bird ticket.

    Attributes:
        sparsity: which fraction of the channels, weights or heads and neurons goes.
        unit: what goes: channels, by the scales of their batch norms; weights, by their size; heads of attention
            and the neurons between two layers, by coefficients that are trained with the weights (EarlyBERT).
        criterion: what scores channels or weights instead.
        scope: global ranks all layers together, as it is for channels and weights unless it is said; uniform takes
            the same fraction of each, as for heads.
        l1: strength of the L1 penalty on the scales of batch norms, or on the coefficients, while the ticket is sought.
        every: how often a mask is drawn, `1ep` or `100it`.
        window: how many masks must agree.
        distance: in less than which share of their entries every two of them must differ.
        weights: from which weights the ticket is trained: stop goes on from those at which it was found, start goes
            back to those before the training and trains for all steps.
        compact: as elsewhere, of the ticket's training; while it is sought all is whole.
        shrink: remove what is pruned before the ticket is trained, which makes that cheaper; not for weights.
        protect: names or patterns of groups, modules and parameters that stay.
        batches: how many training batches a criterion that needs data looks at.

    Raises:
        UsageError: a value is out of its range, or options contradict each other.
    """

    sparsity: float = 0.5
    unit: Literal["channels", "weights", "heads"] = "channels"
    criterion: str | None = None
    scope: Literal["global", "uniform"] | None = None
    l1: float = 1e-4
    every: str = "1ep"
    window: int = 5
    distance: float = 0.1
    weights: Literal["stop", "start"] = "stop"
    shrink: bool = True
    protect: tuple[str, ...] = ()
    batches: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 < self.sparsity < 1, f"sparsity={self.sparsity} is not between 0 and 1")
        _require(0 < self.distance <= 1, f"distance={self.distance} is not in (0, 1]")
        _require(self.l1 >= 0, f"l1={self.l1} is negative")
        _require(self.window >= 2, f"window={self.window}: fewer than two masks cannot agree")
        _require(self.batches >= 1, f"batches={self.batches} is less than 1")
        _require(parse_steps(self.every, 1) >= 1, f"every={self.every} is no pace; masks are at least one step apart")
        stays = self.unit == "weights" or not self.shrink
        _require(stays or not self.compact, "compact=yes is for a ticket with masks, unit=weights or shrink=no; where "
                 "channels or heads are removed nothing is masked")  # fmt: skip
        if self.criterion is not None:
            _require(self.unit != "heads", "unit=heads goes by its coefficients; leave out criterion=")
            made(self.criterion)

    @property
    def chosen_criterion(self) -> str:
        """What scores channels or weights."""
        return self.criterion or _CRITERIA[self.unit]

    @property
    def chosen_scope(self) -> Literal["global", "uniform"]:
        """Whether layers are ranked together."""
        return self.scope or ("uniform" if self.unit == "heads" else "global")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise UsageError(f"early-bird: {otherwise}.")
