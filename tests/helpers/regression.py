"""A tiny task on random data: fit a fixed linear map, batch by batch."""

import math
from dataclasses import dataclass

import torch

from sparsify.task import Score


@dataclass
class Regression:
    """Batches of (x, y) with y a linear function of x; `poison` puts a NaN into the data, `count` is their number."""

    inputs: tuple[int, ...] = (3,)
    outputs: int = 2
    count: int = 4
    size: int = 5
    poison: bool = False
    name: str = "regression"
    asked: int = 0

    def batches(self, split, *, seed=0):
        generator = torch.Generator().manual_seed(seed if split == "train" else 99)
        for _ in range(self.count):
            self.asked += 1
            x = torch.randn(self.size, *self.inputs, generator=generator)
            y = torch.stack([x.flatten(1).sum(1) * (i + 1) for i in range(self.outputs)], 1)
            yield (x * math.nan if self.poison else x), y

    def loss(self, model, batch):
        x, y = batch
        return (model(x) - y).square().mean()

    def score(self, model):
        with torch.no_grad():
            losses = [float(self.loss(model, batch)) for batch in self.batches("validation")]
        return Score(-sum(losses) / len(losses), "negative loss", self.count * self.size)
