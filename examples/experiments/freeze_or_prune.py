"""Should the weights that are not trained be frozen or pruned? LeNet-300-100 on the digits, 20 to 0.5% of it trained.

    python examples/experiments/freeze_or_prune.py [--seeds 5] [--out DIR]

SNIP chooses before the training, the same weights for both ways; the others stay where the seed put them (FreezeNet),
or are zero. Adam at 0.0012, batches of 60, 800 steps. Either network is kept in as many bytes, and four for the seed.
Shares are of the weights: biases are trained besides, always. At 0.5% these are 251 weights and 410 biases.

What was found (five seeds): frozen and pruned networks have 97.5 and 97.2% with a fifth of the weights trained, 87.2
and 70.5 with 1%, 79.3 and 32.4 with 0.5%. So with few trained weights those that stay where they were carry signals
which zeros do not; with many it is the same.

Reference: Wimmer et al., "FreezeNet: Full Performance by Reduced Storage Costs", 2020.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from common import Claim, arguments, draw, lenet, said, write_table

import sparsify as sp
from sparsify.export.checkpoint import save_state
from sparsify.tasks.digits import Digits

TRAINING = "steps=800it,optimizer=adamw,learning_rate=0.0012,weight_decay=0"
SHARES = (0.2, 0.05, 0.01, 0.005)


def main() -> None:
    """Run all seeds, draw, write, judge."""
    given = arguments(__doc__ or "", 5)
    task = Digits(batch_size=60)
    rows: list[dict[str, Any]] = []
    scores: dict[tuple[str, float], list[float]] = defaultdict(list)
    for seed in range(given.seeds):
        start = sp.run(lenet(seed), ["redraw"], task, seed).program
        dense = sp.retrain(start, f"fine-tune:{TRAINING}", task, seed).report["score"]
        scores["dense", 1.0].append(dense)
        for share in SHARES:
            chosen = f"sparsity={1 - share:g},criterion=snip"
            for way, spec in (("freeze", f"freeze:{chosen},base=seed"), ("prune", f"weight-prune:{chosen}")):
                program = sp.run(start, [spec], task, seed).program
                found = sp.retrain(program, f"fine-tune:{TRAINING}", task, seed)
                scores[way, share].append(found.report["score"])
                kept = save_state(found.program, given.out / f"{way}-{share}.safetensors", "packed")["bytes"]
                rows.append({"seed": seed, "trained": share, "way": way, "score": found.report["score"],
                             "dense": dense, "bytes": kept})  # fmt: skip
        print(f"seed {seed} done", flush=True)
    write_table(given.out / "freeze_or_prune.csv", rows)
    marks = {way: [scores[way, share] for share in SHARES] for way in ("freeze", "prune")}
    draw(given.out / "freeze_or_prune.png", marks, scores["dense", 1.0], [f"{share:.1%} trained" for share in SHARES])
    print(f"\ndense {said(scores['dense', 1.0])}")
    for share in SHARES:
        sizes = {row["way"]: row["bytes"] for row in rows if row["trained"] == share}
        print(f"{share:.1%} trained: " + ", ".join(
            f"{way} {said(scores[way, share])} ({sizes[way]:,} bytes)" for way in ("freeze", "prune")))  # fmt: skip
    claim = Claim("Few trained weights: freeze the others; many: prune them, it is as good")
    for share in SHARES[2:]:
        claim.beats(f"at {share:.1%}", "freezing", scores["freeze", share], "pruning", scores["prune", share])
    best = sum(scores["freeze", SHARES[0]]) / given.seeds
    claim.reaches(best - 0.005, scores["prune", SHARES[0]],
                  f"pruning is half a point below freezing or better at {SHARES[0]:.1%}: "
                  f"{said(scores['prune', SHARES[0]])}, {said(scores['freeze', SHARES[0]])}")  # fmt: skip
    claim.say()


if __name__ == "__main__":
    main()
