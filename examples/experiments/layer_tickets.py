"""Are networks with fewer layers tickets, too? A residual network of 15 blocks on the digits.

    python examples/experiments/layer_tickets.py [--seeds 3] [--out DIR]

After training: the blocks of a trained network are scored, the lowest ones go, and what is left is rewound to its first
weights and trained. At initialization: GraSP or SNIP scores the blocks of the untrained network, the lowest go, and
what is left is trained once. Adam-like training of 12 epochs each; controls are random blocks.

The multiply-accumulates that each removal saves are also counted for the networks of the paper, ResNet-32 and ResNet-56
for 32x32 images. Its Table 4 gives 34.13% for ResNet-32 with "p = 4"; that is what 5 blocks save (4 save 27.3%).

What was found (three seeds): the savings are those of the paper to 0.03 points (6.83, 34.13 and 45.03%). With 1 to 8 of
15 blocks gone every ticket is within a point of the dense network (98.2 to 98.9 of 98.9%), whether its blocks were
chosen by a trained network or at initialization. So are random blocks: on data this easy the choice does not matter,
and what these trainings show is that depth was not needed.

Reference: Jordao et al., "When Layers Play the Lottery, all Tickets Win at Initialization", 2023.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from common import Claim, arguments, draw, mean, said, write_table

import sparsify as sp
from sparsify.demo_net import ResNet
from sparsify.program import Program
from sparsify.tasks.digits import Digits

TRAINING = "steps=12ep,learning_rate=3e-3,optimizer=adamw,weight_decay=0.01,warmup=1ep"
COUNTS = (1, 3, 5, 8)
WAYS = {
    "trained, expect-abs": "when=trained,criterion=expect-abs",
    "init, grasp": "when=init,criterion=grasp",
    "init, snip": "when=init,criterion=snip",
    "init, random": "when=init,criterion=random",
}


def network(seed: int) -> Program:
    """Return a network of 15 blocks for 8x8 images."""
    torch.manual_seed(seed)
    args, _ = Digits().example()
    return sp.capture(ResNet([5, 5, 5], [8, 16, 32], channels=1, classes=10), args)


def main() -> None:
    """Count, run all seeds, write, judge."""
    given = arguments(__doc__ or "", 3)
    claim = Claim("Layer tickets win, after training and at initialization")
    macs_of_the_paper(claim)
    rows: list[dict[str, Any]] = []
    scores: dict[tuple[str, int], list[float]] = defaultdict(list)
    for seed in range(given.seeds):
        program = network(seed)
        dense = sp.retrain(program, f"fine-tune:{TRAINING}", "digits", seed).report["score"]
        scores["dense", 0].append(dense)
        for way, words in WAYS.items():
            for count in COUNTS:
                spec = f"lth:{TRAINING},unit=layers,rounds=1,count={count},{words}"
                found = sp.retrain(program, spec, "digits", seed).report["retrain"]["rounds"][-1]
                scores[way, count].append(found["score"])
                rows.append({"seed": seed, "way": way, "blocks": count, "score": found["score"], "dense": dense,
                             "macs_share": found["macs_share"], "removed": " ".join(found["removed"])})  # fmt: skip
        print(f"seed {seed} done", flush=True)
    write_table(given.out / "layer_tickets.csv", rows)
    marks = {way: [scores[way, count] for count in COUNTS] for way in WAYS}
    draw(given.out / "layer_tickets.png", marks, scores["dense", 0], [f"{count} of 15 blocks gone" for count in COUNTS])
    print(f"\ndense {said(scores['dense', 0])}")
    for way in WAYS:
        print(f"{way}: " + ", ".join(f"{count} blocks {said(scores[way, count])}" for count in COUNTS))
    bar = mean(scores["dense", 0]) - 0.01
    for way in ("trained, expect-abs", "init, grasp"):
        for count in COUNTS:
            claim.reaches(
                bar,
                scores[way, count],
                f"{way}, {count} of 15 blocks gone: {said(scores[way, count])} of {said(scores['dense', 0])}",
            )
    claim.say()


def macs_of_the_paper(claim: Claim) -> None:
    """Check the multiply-accumulates of ResNet-32 and ResNet-56 against the paper's table."""
    nets = {name: ResNet([blocks] * 3, [16, 32, 64], channels=3, classes=10) for name, blocks in (("32", 5), ("56", 9))}
    programs = {name: sp.capture(net, (torch.randn(2, 3, 32, 32),)) for name, net in nets.items()}
    whole = {name: sp.cost(program).macs for name, program in programs.items()}
    expected = {("32", 1): 6.82, ("32", 5): 34.13, ("56", 12): 45.0}
    for (name, count), percent in expected.items():
        small = sp.run(programs[name], [f"layer-prune:count={count},criterion=random"]).program
        saved = 100 * (1 - sp.cost(small).macs / whole[name])
        claim.part(
            abs(saved - percent) < 0.1,
            f"ResNet-{name} without {count} blocks saves {saved:.2f}% of "
            f"{whole[name] / 1e6:.3f} million MACs (the paper: {percent})",
        )


if __name__ == "__main__":
    main()
