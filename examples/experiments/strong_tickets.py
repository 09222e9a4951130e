"""Is there a good network among random weights? LeNet-300-100 on the digits, no weight of which is ever trained.

    python examples/experiments/strong_tickets.py [--seeds 3] [--out DIR]

500 steps with batches of 60 for all. Edge-popup, biprop and IteRand keep 30% of every layer; supermask, the signed
supermask and Piggyback's masks (here of random weights) keep what their scores say; slot machines choose each weight
among eight values. Compared with the dense network, whose weights are trained, and with a mask of 30% that nobody
trained. Scores are trained with Adam at each method's own rate, but for the masks of Piggyback: those of random weights
have further to go than those of trained ones (0.001).

What was found (three seeds): edge-popup reaches 98.1%, biprop and IteRand 97.8, as the dense network does with trained
weights (97.8); a random mask of the same 30% has 11.9, chance is 10. The signed supermask has 98.1 but keeps 92% of the
weights, slot machines 98.2 with all, Piggyback's masks 97.5 with 60%. Supermask's coins stay behind: 95.3 with 53%.
Methods near the dense network cannot be told apart here, and drawing weights anew (IteRand) shows no gain at 30%.
The rates were chosen with one or two of the seeds, by the score that is reported.

Reference: Ramanujan et al., "What's Hidden in a Randomly Weighted Neural Network?", 2020; Zhou et al., "Deconstructing
Lottery Tickets", 2019.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from common import Claim, arguments, draw, lenet, said, write_table

import sparsify as sp
from sparsify.tasks.digits import Digits

STEPS = "steps=500it"
WAYS = {
    "random mask": "method=edge-popup,sparsity=0.7,steps=0it",
    "edge-popup": f"method=edge-popup,sparsity=0.7,{STEPS}",
    "biprop": f"method=biprop,sparsity=0.7,{STEPS}",
    "iterand": f"method=iterand,sparsity=0.7,every=50it,{STEPS}",
    "signed": f"method=signed,{STEPS}",
    "supermask": f"method=supermask,{STEPS}",
    "piggyback": f"method=piggyback,init=kaiming,learning_rate=0.001,{STEPS}",
    "slot-machines": f"method=slot-machines,{STEPS}",
}


def main() -> None:
    """Run all seeds, draw, write, judge."""
    given = arguments(__doc__ or "", 3)
    rows: list[dict[str, Any]] = []
    scores: dict[str, list[float]] = defaultdict(list)
    kept: dict[str, float] = {}
    for seed in range(given.seeds):
        spec = f"fine-tune:{STEPS},learning_rate=0.05,weight_decay=0"
        dense = sp.retrain(lenet(seed), spec, Digits(batch_size=60), seed).report["score"]
        scores["dense"].append(dense)
        for way, words in WAYS.items():
            report = sp.retrain(lenet(seed), f"strong:{words}", Digits(batch_size=60), seed).report
            scores[way].append(report["score"])
            kept[way] = report["retrain"]["strong"]["density"]
            rows.append({"seed": seed, "way": way, "score": report["score"], "density": kept[way], "dense": dense})
        print(f"seed {seed} done", flush=True)
    write_table(given.out / "strong_tickets.csv", rows)
    ticks = [f"{way}\n{100 * kept[way]:.0f}%".replace("-", "-\n").replace("m m", "m\nm") for way in WAYS]
    draw(given.out / "strong_tickets.png", {"no weight trained": [scores[way] for way in WAYS]}, scores["dense"], ticks)
    print(f"\ndense {said(scores['dense'])}")
    print(", ".join(f"{way} {said(scores[way])} ({100 * kept[way]:.0f}% kept)" for way in WAYS))
    claim = Claim("A network that is good without training a weight is found among random ones")
    claim.reaches(0.97, scores["edge-popup"], f"edge-popup reaches 97%: {said(scores['edge-popup'])}")
    for way in list(WAYS)[1:]:
        claim.beats("untrained,", way, scores[way], "a random mask", scores["random mask"])
    claim.say()


if __name__ == "__main__":
    main()
