"""Which weights should be kept before anything is trained? LeNet-300-100 on the digits, 98% sparse.

    python examples/experiments/pruning_at_init.py [--seeds 5] [--out DIR]

SGD with momentum at 0.05, batches of 60, 1500 steps; 1,004 of 50,200 weights are kept, chosen in the untrained
network. Criteria with their papers' rounds; random places with as much of every layer as Erdős-Rényi, smart ratios or
SNIP say; and GraSP with its sign turned round: in every layer as many weights as GraSP keeps, but those that it scores
lowest.

What was found (five seeds): GraSP 92.2 ± 4.2, SNIP 95.2 ± 0.9, SynFlow 95.6 ± 0.8, FORCE 95.7 ± 0.4, dense 97.6. The
order is that of the papers, but only that of GraSP and magnitude is beyond what seeds do. Magnitude is at chance
(10.2): torch draws weights within 1/√fan-in, so that all 1,004 largest ones are in the first layer and nothing passes
the others. GraSP's sign matters: turned round within every layer it has 28.7 ± 18.2. What is kept matters more than how
much of each layer: SNIP's shares with random places have 76.8 ± 7.8, Erdős-Rényi's 72.0 ± 6.8, smart ratios 79.3 ± 7.0.

Reference: Lee et al., "SNIP", 2019; Wang et al., "Picking Winning Tickets Before Training by Preserving Gradient
Flow", 2020; Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow", 2020;
Su et al., "Sanity-Checking Pruning Methods", 2020.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

from common import Claim, arguments, draw, lenet, said, write_table

import sparsify as sp
from sparsify.tasks.digits import Digits

TRAINING = "steps=1500it,learning_rate=0.05,weight_decay=0"
SPARSITY = 0.98
WAYS = {
    "magnitude": "criterion=magnitude",
    "grasp": "criterion=grasp,controls=dense,invert",
    "snip": "criterion=snip",
    "force": "criterion=force",
    "synflow": "criterion=synflow",
    "random, ERK": "criterion=random,allocation=erk",
    "random, smart": "criterion=random,allocation=smart",
    "random, SNIP's": "criterion=random,ratios=snip",
}
INVERTED = "grasp, inverted"
ORDER = ("magnitude", "grasp", "snip", "synflow")


def main() -> None:
    """Run all seeds, draw, write, judge."""
    given = arguments(__doc__ or "", 5)
    rows: list[dict[str, Any]] = []
    scores: dict[str, list[float]] = defaultdict(list)
    for seed in range(given.seeds):
        for way, words in WAYS.items():
            spec = f"pai:{TRAINING},sparsity={SPARSITY},{words}"
            record = (report := sp.retrain(lenet(seed), spec, Digits(batch_size=60), seed).report)["retrain"]
            controls = {item["control"]: item["score"] for item in record.get("controls", ())}
            found = {way: report["score"]}
            found |= {"dense": controls["dense"], INVERTED: controls["invert"]} if controls else {}
            for name, score in found.items():
                scores[name].append(score)
                shares = {layer: item["kept"] for layer, item in record["layers"].items() if name != "dense"}
                rows.append({"seed": seed, "way": name, "score": score, "kept": sum(shares.values()) or 50_200,
                             "of_layers": "/".join(map(str, shares.values()))})  # fmt: skip
        last = ", ".join(f"{name} {said(values[-1:])}" for name, values in scores.items())
        print(f"seed {seed}: {last}", flush=True)
    write_table(given.out / "pruning_at_init.csv", rows)
    shown = (*WAYS, INVERTED)
    labels = [name.replace(", ", ",\n") for name in shown]
    draw(given.out / "pruning_at_init.png", {"98% sparse": [scores[name] for name in shown]}, scores["dense"], labels)
    print(f"\ndense {said(scores['dense'])}")
    print(", ".join(f"{name} {said(scores[name])}" for name in shown))
    judge(scores)


def judge(scores: dict[str, list[float]]) -> None:
    """Print which claims held."""
    order = Claim("Magnitude < GraSP < SNIP < SynFlow")
    for worse, better in itertools.pairwise(ORDER):
        order.beats("at 98%", better, scores[better], worse, scores[worse])
    order.say()
    sign = Claim("GraSP keeps what its score says, not the opposite")
    sign.beats("at 98%", "grasp", scores["grasp"], INVERTED, scores[INVERTED])
    sign.say()
    ratios = Claim("Random places need the right share of every layer, and lose to chosen ones with the same shares")
    ratios.beats("at 98%", "snip", scores["snip"], "random, SNIP's", scores["random, SNIP's"])
    ratios.beats("at 98%", "random, SNIP's", scores["random, SNIP's"], "random, ERK", scores["random, ERK"])
    ratios.say()


if __name__ == "__main__":
    main()
