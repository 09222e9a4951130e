"""A task from the DataLoaders that you have: nothing but the call at the end is sparsify's.

    sparsify model.pt --task examples/own_loader.py:make --pass layer-prune:count=2,criterion=snip \
        --retrain fine-tune:steps=5ep -o small.onnx

From Python the task itself serves: `sparsify.run(program, [...], task=make())`.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

import sparsify as sp


def make() -> sp.LoaderTask:
    """Tell the ten digits apart."""
    images, labels = load_digits(return_X_y=True)
    pixels = (torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) - 4.9) / 6.0
    data = TensorDataset(pixels, torch.tensor(labels))
    train, validation = random_split(data, [0.75, 0.25], torch.Generator().manual_seed(0))
    return sp.LoaderTask(
        train=DataLoader(train, batch_size=64, shuffle=True),
        validation=DataLoader(validation, batch_size=64),
        loss=lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]),
        score_each=lambda model, batch: model(batch[0]).argmax(1) == batch[1],
        name="my digits",
    )
