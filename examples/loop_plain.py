"""Train a pruned model in a loop of your own: one line keeps what is pruned at zero.

python examples/loop_plain.py
"""

from __future__ import annotations

import torch
from torch import nn

import sparsify as sp
from sparsify.tasks.digits import Digits


def main(steps: int = 200) -> float:
    """Prune a small network, train the rest, and return its accuracy."""
    task = Digits()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )
    program = sp.capture(model, *task.example())
    program = sp.run(program, ["weight-prune:sparsity=0.9,criterion=snip"], task=task).program

    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    controller = sp.MaskController(program).attach(optimizer, model)  # the one line
    step = 0
    while step < steps:
        for batch in task.batches("train", seed=step):
            optimizer.zero_grad()
            task.loss(model, batch).backward()
            optimizer.step()
            step += 1
    controller.check()  # nothing that was pruned has come back
    accuracy = task.score(model.eval())
    kept = sum(int(mask.sum()) for mask in controller.masks.values())
    print(f"{accuracy} with {kept:,} weights")
    return accuracy.value


if __name__ == "__main__":
    main()
