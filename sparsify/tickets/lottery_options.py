"""Options of the lottery: what is pruned, when, and what is compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from sparsify.errors import UsageError
from sparsify.patterns import NofM, parse_pattern
from sparsify.pruning.choice import made
from sparsify.schedules import parse_steps
from sparsify.tickets.comparison import Control, Unit
from sparsify.training.train_options import TrainOptions

__all__ = ["LotteryOptions"]

Start: TypeAlias = Literal["given", "torch", "kaiming", "xavier", "shuffle"]


@dataclass(frozen=True)
class LotteryOptions(TrainOptions):
    """How to look for lottery tickets.

    Attributes:
        rounds: how often is pruned; one is one shot.
        once: prune at once, behind the first training, what the rounds would in turn.
        rate: which share of what is left goes in each round.
        unit: what goes: single weights, channels, or layers (residual blocks).
        pattern: of weights: unstructured, N:M (one round), or blockBxB.
        count: how many layers go in each round.
        criterion: what decides; of the trained weights, or of those at the start with when=init.
        scope: global ranks the weights of all layers together, layer those of each.
        first: dense leaves out layers that read the model's inputs.
        last: half prunes layers whose results are outputs at half the rate (scope=layer), dense leaves them out.
        protect: names or patterns of modules and parameters that stay.
        compact: as in any training; what is trained without masks, such as the dense network, is trained whole.
        when: trained prunes behind each training, init before the only one (SNIP, GraSP, SynFlow).
        rewind: to which step of the training the weights go back, `0it` or `500it`.
        mode: rewind takes the weights back; learning-rate keeps the trained weights and repeats the training from the
            step of the rewinding on; fine-tune keeps them and trains on at a tenth of the learning rate; reinit draws
            what is left anew. What keeps trained weights is trained longer than the dense network; its tickets hold
            the weights of the start all the same.
        init: how weights are drawn before everything; given keeps those of the program.
        controls: networks that a ticket must beat, trained alike: reinit (its places, new weights), random (as many in
            random places, new weights; of layers the first weights), shuffle and invert (other places, the first
            weights), small-dense (as many in narrower layers, new weights); dense with when=init. New weights are
            drawn as init says, and are trained from the first step on.
        controls_at: the rounds at which controls are trained; the last one, or all.
        margin: how much worse than the dense network a winning ticket may score.
        batches: how many training batches a criterion that needs data looks at.

    Raises:
        UsageError: a value is out of its range, or options contradict each other.
    """

    rounds: int = 5
    once: bool = False
    rate: float = 0.2
    unit: Unit = "weights"
    pattern: str = "unstructured"
    count: int = 1
    criterion: str = "magnitude"
    scope: Literal["global", "layer"] = "global"
    first: Literal["prune", "dense"] = "prune"
    last: Literal["prune", "half", "dense"] = "prune"
    protect: tuple[str, ...] = ()
    when: Literal["trained", "init"] = "trained"
    rewind: str = "0it"
    mode: Literal["rewind", "learning-rate", "fine-tune", "reinit"] = "rewind"
    init: Start = "given"
    controls: tuple[Control, ...] = ()
    controls_at: Literal["last", "all"] = "last"
    margin: float = 0.01
    batches: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rounds", "count", "batches"):
            _require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} is less than 1")
        _require(0 < self.rate < 1, f"rate={self.rate} is not between 0 and 1")
        parse_steps(self.rewind, 1)
        made(self.criterion)
        pattern = parse_pattern(self.pattern)
        _require(
            self.unit == "weights" or self.pattern == "unstructured", f"pattern={self.pattern} is for unit=weights"
        )
        _require(not isinstance(pattern, NofM) or self.rounds == 1, f"pattern={self.pattern} takes rounds=1")
        _require(self.last != "half" or (self.scope == "layer" and self.unit == "weights"),
                 "last=half goes with unit=weights,scope=layer")  # fmt: skip
        if self.when == "init":
            _require(self.mode == "rewind" and self.rewind == "0it", "when=init has nothing to rewind: leave out mode "
                     "and rewind")  # fmt: skip
        _require("dense" not in self.controls or self.when == "init", "the dense network is trained anyway; leave it "
                 "out of controls")  # fmt: skip
        if self.unit == "layers":
            _require(not self.compact, "unit=layers makes no masks: there is nothing that compact=yes could leave out")
            other = [name for name in self.controls if name not in ("reinit", "random", "dense")]
            _require(not other, f"controls={','.join(other)} are not for layers; take reinit or random")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise UsageError(f"lth: {otherwise}.")
