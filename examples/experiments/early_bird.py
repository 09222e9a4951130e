"""How early is an early-bird ticket found, and is it as good as one drawn at the end? A small ResNet on the digits.

    python examples/experiments/early_bird.py [--seeds 3] [--out DIR]

A network of three residual blocks with batch norms, 20 epochs. Every epoch the 70% of the channels with the smallest
scales would go; the search ends when five masks in a row differ in less than a tenth. What is left is trained for the
rest of the 20 epochs (as used), and, to compare masks alone, from the first weights for all of them: the early mask,
the mask of the scales at the end of the 20 epochs, and random channels.

What was found (three seeds): the ticket is found after 8 or 9 of 20 epochs, 42% of them, not the tenth of the paper,
whose runs are eight times as long. Its mask differs from that at the end in 2.4% of the channels, and is as good: 97.9%
as used and from the first weights, 98.1 with the mask at the end, 98.4 dense. Random channels have 98.5, more than the
early mask in every seed: on data this easy scales of norms choose channels no better than chance.

Reference: You et al., "Drawing Early-Bird Tickets: Towards More Efficient Training of Deep Networks", 2020.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from common import Claim, arguments, draw, mean, said, write_table

import sparsify as sp
from sparsify.demo_net import ResNet
from sparsify.masking import unmasked
from sparsify.program import Program
from sparsify.tasks.digits import Digits
from sparsify.tickets.stability import hamming

EPOCHS = 20
TRAINING = f"steps={EPOCHS}ep,learning_rate=3e-3,optimizer=adamw,weight_decay=0.01,warmup=1ep"
SHARES = (0.7,)
NEVER = 1e-9  # a distance that the masks of all epochs do not come near to


def network(seed: int) -> Program:
    """Return a network of three blocks for 8x8 images."""
    torch.manual_seed(seed)
    args, _ = Digits().example()
    return sp.capture(ResNet([1, 1, 1], [8, 16, 32], channels=1, classes=10), args)


def trained(program: Program, masks: Program, seed: int) -> float:
    """Return the score of a program without the channels that another one lacks, trained for all epochs."""
    ticket = sp.Ticket.of(masks, program)
    begin = sp.run(ticket.apply(program, weights=False), ["shrink"]).program
    return float(sp.retrain(begin, f"fine-tune:{TRAINING}", "digits", seed).report["score"])


def apart(one: Program, other: Program) -> float:
    """Return in which share of the channels two programs' masks differ, by the scales of norms."""
    names = [name for name, mask in one.masks.items() if mask.ndim == 1 and name.endswith("weight")]
    join = [torch.cat([program.masks[name] for name in names]) for program in (one, other)]
    return hamming(*join)


def main() -> None:
    """Run all seeds, draw, write, judge."""
    given = arguments(__doc__ or "", 3)
    rows: list[dict[str, Any]] = []
    scores: dict[tuple[str, float], list[float]] = defaultdict(list)
    shares: dict[float, list[float]] = defaultdict(list)
    for seed in range(given.seeds):
        program = network(seed)
        dense = float(sp.retrain(program, f"fine-tune:{TRAINING}", "digits", seed).report["score"])
        scores["dense", 0].append(dense)
        late = sp.retrain(program, f"early-bird:{TRAINING},window={EPOCHS},distance={NEVER}", "digits", seed).ticket
        assert late is not None
        end = unmasked(late.apply(program))
        for share in SHARES:
            found = sp.retrain(program, f"early-bird:{TRAINING},sparsity={share}", "digits", seed)
            assert found.ticket is not None
            record = found.report["retrain"]["early_bird"]
            prune = f"channel-prune:sparsity={share},scope=global,criterion="
            early = found.ticket.apply(program)
            last, random = (sp.run(end, [f"{prune}{name}"], None, seed).program for name in ("norm-scale", "random"))
            values = {
                "early, as used": float(found.report["score"]), "early mask": trained(program, early, seed),
                "mask at the end": trained(program, last, seed), "random channels": trained(program, random, seed),
            }  # fmt: skip
            for name, value in values.items():
                scores[name, share].append(value)
            shares[share].append(record["share"])
            rows.append({"seed": seed, "sparsity": share, "dense": dense, "found": record["found"],
                         "epoch": record["mask"], "share": record["share"], "early_to_end": apart(early, last),
                         **values})  # fmt: skip
            print(f"seed {seed}, {share:.0%} gone: found after epoch {record['mask']} of {EPOCHS}", flush=True)
    write_table(given.out / "early_bird.csv", rows)
    names = ("early, as used", "early mask", "mask at the end", "random channels")
    marks = {name: [scores[name, share] for share in SHARES] for name in names}
    draw(
        given.out / "early_bird.png",
        marks,
        scores["dense", 0],
        [f"{share:.0%} of the channels gone" for share in SHARES],
    )
    judge(scores, shares, rows)


def judge(
    scores: dict[tuple[str, float], list[float]], shares: dict[float, list[float]], rows: list[dict[str, Any]]
) -> None:
    """Print the table and which claims held."""
    print(f"\ndense {said(scores['dense', 0])}")
    claim = Claim("Early-bird tickets are found early and are as good as late ones")
    for share in SHARES:
        away = mean([row["early_to_end"] for row in rows if row["sparsity"] == share])
        names = ("early, as used", "early mask", "mask at the end", "random channels")
        found = ", ".join(f"{name} {said(scores[name, share])}" for name in names)
        print(f"{share:.0%} of the channels gone, found after {said(shares[share])}% of the epochs, {away:.1%} of the "
              f"mask from that at the end: {found}")  # fmt: skip
        claim.part(max(shares[share]) < 0.5, f"{share:.0%} gone: found in the first half, after {said(shares[share])}%")
        late = scores["mask at the end", share]
        for name in ("early, as used", "early mask"):
            both = f"{said(scores[name, share])}, {said(late)}"
            text = f"{share:.0%} gone: {name} within a point of the mask at the end: {both}"
            claim.reaches(mean(late) - 0.01, scores[name, share], text)
        claim.beats(f"{share:.0%} gone:", "the early mask", scores["early mask", share],
                    "random channels", scores["random channels", share])  # fmt: skip
    claim.say()


if __name__ == "__main__":
    main()
