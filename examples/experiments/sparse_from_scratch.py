"""How should a network be trained that is sparse from the first step? LeNet-300-100 on the digits, 98 and 99% sparse.

    python examples/experiments/sparse_from_scratch.py [--seeds 5] [--out DIR]

SGD with momentum at 0.05, batches of 60, 1500 steps, updates of the masks every 20 steps. Static masks with as much of
every layer (uniform) or by Erdős-Rényi (ER), and, from the same ER masks, SET, RigL, SNFS, DSR, DEEP R; gradual
magnitude pruning, which is dense at first, for comparison.

What was found (five seeds): the ordering of the papers, but for one place. At 98% static uniform masks reach 32%, ER
72, exchanging weights at random (SET) 87, with gradients (RigL) or momentum (SNFS) as guides 95, gradual pruning, which
is dense at first, 97; DSR lies between SET and RigL, DEEP R beside static ER. At 99% RigL and SNFS still reach 93 and
94%, other sparse ways less than 40; SET is no better than static masks there (24 and 23, and both vary by ten points).

Reference: Evci et al., "Rigging the Lottery: Making All Tickets Winners", 2020.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from typing import Any

from common import Claim, arguments, draw, lenet, said, write_table

import sparsify as sp
from sparsify.report.history import read_history
from sparsify.report.plots import plot
from sparsify.tasks.digits import Digits

TRAINING = "steps=1500it,learning_rate=0.05,weight_decay=0,score_every=100it"
WAYS = {
    "static uniform": "method=static,allocation=uniform",
    "static": "method=static,allocation=er",
    "set": "method=set,allocation=er,every=20it",
    "rigl": "method=rigl,allocation=er,every=20it",
    "snfs": "method=snfs,allocation=er,every=20it",
    "dsr": "method=dsr,allocation=er,every=20it",
    "deepr": "method=deepr,allocation=er",
    "gmp": "method=gmp,allocation=er,every=20it",
}
SPARSITIES = (0.98, 0.99)


def main() -> None:
    """Run all seeds, draw, write, judge."""
    given = arguments(__doc__ or "", 5)
    rows: list[dict[str, Any]] = []
    scores: dict[tuple[str, float], list[float]] = defaultdict(list)
    for seed in range(given.seeds):
        dense = sp.retrain(lenet(seed), f"fine-tune:{TRAINING}", Digits(batch_size=60), seed).report["score"]
        scores["dense", 0.0].append(dense)
        for sparsity in SPARSITIES:
            for way, words in WAYS.items():
                folder = given.out / f"sparse-{sparsity}-{way.replace(' ', '-')}-{seed}"
                shutil.rmtree(folder, ignore_errors=True)
                spec = f"dst:{TRAINING},sparsity={sparsity},{words}"
                found = sp.retrain(lenet(seed), spec, Digits(batch_size=60), seed, work=folder)
                scores[way, sparsity].append(found.report["score"])
                rows.append({"seed": seed, "sparsity": sparsity, "way": way, "score": found.report["score"],
                             "dense": dense, "itop": found.report["retrain"].get("itop")})  # fmt: skip
        print(f"seed {seed} done", flush=True)
    write_table(given.out / "sparse_from_scratch.csv", rows)
    marks = {f"{100 * sparsity:g}% sparse": [scores[way, sparsity] for way in WAYS] for sparsity in SPARSITIES}
    draw(given.out / "sparse_from_scratch.png", marks, scores["dense", 0.0], list(WAYS))
    shown = ("static", "set", "rigl", "snfs", "dsr", "gmp")
    plot([read_history(given.out / f"sparse-0.98-{way}-0") for way in shown], given.out / "sparse_curves.png")
    print(f"wrote {given.out / 'sparse_curves.png'}\n\ndense {said(scores['dense', 0.0])}")
    for sparsity in SPARSITIES:
        print(f"{100 * sparsity:g}% sparse: " + ", ".join(f"{way} {said(scores[way, sparsity])}" for way in WAYS))
    claim = Claim("Static < SET < RigL, and ER before uniform")
    for sparsity in SPARSITIES:
        for worse, better in (("static uniform", "static"), ("static", "set"), ("set", "rigl")):
            where = f"at {100 * sparsity:g}%"
            claim.beats(where, better, scores[better, sparsity], worse, scores[worse, sparsity])
    claim.say()


if __name__ == "__main__":
    main()
