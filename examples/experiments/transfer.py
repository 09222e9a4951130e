"""Is a ticket of one task a ticket of another? LeNet-300-100 on two halves of the digits.

    python examples/experiments/transfer.py [--seeds 3] [--out DIR]

A ticket is found on the digits 0 to 4, with Adam, in rounds in which 20% of the weights go. Its masks and first weights
are then trained on the digits 5 to 9, with Adam and with SGD. Compared with as many weights of each layer in random
places with new weights, with a ticket that was found on 5 to 9 itself, and with the dense network.

Reference: Morcos et al., "One Ticket to Win Them All: Generalizing Lottery Ticket Initializations across Datasets and
Optimizers", 2019.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from common import Claim, arguments, draw, lenet, mean, said, write_table
from torch import Tensor

import sparsify as sp
from sparsify.data.classification import Classification
from sparsify.program import Program
from sparsify.task import Split
from sparsify.tasks.digits import Digits

SEARCH = "steps=400it,learning_rate=1.2e-3,optimizer=adamw,weight_decay=0,schedule=constant"
OPTIMIZERS = {"Adam": SEARCH, "SGD": "steps=400it,learning_rate=0.05,weight_decay=0,schedule=constant"}
ROUNDS = {7: "21%", 14: "5%"}


@dataclass(frozen=True)
class Half(Classification):
    """Five of the ten digits, 0 to 4 or 5 to 9."""

    name: ClassVar[str] = "half of the digits"
    first: int = 0
    batch_size: int = 60

    def data(self, split: Split) -> tuple[Tensor, Tensor]:
        """Return the images and labels, from 0 to 4, of a split."""
        images, labels = Digits().data(split)
        own = (labels >= self.first) & (labels < self.first + 5)
        return images[own], labels[own] - self.first


def found(program: Program, task: Half, seed: int) -> dict[int, Program]:
    """Return the tickets that a task finds in so many rounds."""
    spec = f"lth:{SEARCH},scope=layer,last=half,rate=0.2,rounds={max(ROUNDS)}"
    with tempfile.TemporaryDirectory() as folder:
        sp.retrain(program, spec, task, seed, work=folder)
        tickets = {number: sp.Ticket.load(Path(folder) / f"round-{number}.ticket") for number in ROUNDS}
    return {number: ticket.apply(program) for number, ticket in tickets.items()}


def main() -> None:
    """Run all seeds, draw, write, judge."""
    given = arguments(__doc__ or "", 3)
    one, other = Half(0), Half(5)
    rows: list[dict[str, Any]] = []
    scores: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for seed in range(given.seeds):
        program = lenet(seed, classes=5)
        first, own = found(program, one, seed), found(program, other, seed)
        for number, moved in first.items():
            networks = {
                "ticket of 0-4": moved,
                "ticket of 5-9": own[number],
                "random": sp.run(moved, ["sanity:control=random"], None, seed + 100).program,
                **({"dense": program} if number == min(ROUNDS) else {}),
            }
            for optimizer, training in OPTIMIZERS.items():
                for name, begin in networks.items():
                    score = float(sp.retrain(begin, f"fine-tune:{training}", other, seed).report["score"])
                    scores[name, optimizer, 0 if name == "dense" else number].append(score)
                    rows.append({"seed": seed, "network": name, "optimizer": optimizer,
                                 "weights": "100%" if name == "dense" else ROUNDS[number], "score": score})  # fmt: skip
        print(f"seed {seed} done", flush=True)
    write_table(given.out / "transfer.csv", rows)
    names = ("ticket of 0-4", "ticket of 5-9", "random")
    marks = {
        f"{name}, {optimizer}": [scores[name, optimizer, number] for number in ROUNDS]
        for optimizer in OPTIMIZERS
        for name in names
    }
    ticks = [f"{text} of the weights" for text in ROUNDS.values()]
    dense = {f"dense, {optimizer}": scores["dense", optimizer, 0] for optimizer in OPTIMIZERS}
    draw(given.out / "transfer.png", marks, dense, ticks)
    judge(scores)


def judge(scores: dict[tuple[str, str, int], list[float]]) -> None:
    """Print the table and which claims held."""
    claim = Claim("A ticket of one half of the digits is one of the other half, and with another optimizer")
    for optimizer in OPTIMIZERS:
        dense = scores["dense", optimizer, 0]
        print(f"\n{optimizer}: dense {said(dense)}")
        for number, text in ROUNDS.items():
            moved, own, random = (
                scores[name, optimizer, number] for name in ("ticket of 0-4", "ticket of 5-9", "random")
            )
            print(
                f"{text} of the weights: ticket of 0-4 {said(moved)}, ticket of 5-9 {said(own)}, random {said(random)}"
            )
            claim.beats(f"{optimizer}, {text}:", "the ticket of 0-4", moved, "random", random)
            if number == min(ROUNDS):
                both = f"{said(moved)} of {said(dense)}"
                part = f"{optimizer}, {text}: within a point of the dense network: {both}"
                claim.reaches(mean(dense) - 0.01, moved, part)
    claim.say()


if __name__ == "__main__":
    main()
