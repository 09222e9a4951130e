"""The loop of `loop_plain.py` with Hugging Face Accelerate: attach the controller to what `prepare` gives.

pip install accelerate
python examples/loop_accelerate.py
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

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

    accelerator = Accelerator()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    loader = DataLoader(TensorDataset(*task.data("train")), batch_size=64, shuffle=True, drop_last=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    controller = sp.MaskController(program).attach(optimizer, model)  # the one line
    step = 0
    while step < steps:
        for batch in loader:
            optimizer.zero_grad()
            accelerator.backward(task.loss(model, batch))
            optimizer.step()
            step += 1
    controller.check()
    accuracy = task.score(accelerator.unwrap_model(model).eval())
    accelerator.print(f"{accuracy}")
    return accuracy.value


if __name__ == "__main__":
    main()
