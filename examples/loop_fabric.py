"""The loop of `loop_plain.py` with Lightning Fabric: attach the controller to what `setup` gives.

pip install lightning-fabric
python examples/loop_fabric.py
"""

from __future__ import annotations

import torch
from lightning_fabric import Fabric
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

    fabric = Fabric()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    fabric_model, fabric_optimizer = fabric.setup(model, optimizer)
    loader = fabric.setup_dataloaders(
        DataLoader(TensorDataset(*task.data("train")), batch_size=64, shuffle=True, drop_last=True)
    )
    controller = sp.MaskController(program).attach(fabric_optimizer, fabric_model)  # the one line
    step = 0
    while step < steps:
        for batch in loader:
            fabric_optimizer.zero_grad()
            fabric.backward(task.loss(fabric_model, batch))
            fabric_optimizer.step()
            step += 1
    controller.check()
    accuracy = task.score(model.eval())
    fabric.print(f"{accuracy}")
    return accuracy.value


if __name__ == "__main__":
    main()
