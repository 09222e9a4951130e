"""Statistics made by hand, for the tests of criteria."""

import torch

from sparsify.criteria import BlockStats, WeightStats


def weight_stats(weight, seed=0, **tensors):
    """Make the statistics of one weight from nested lists."""
    known = {name: torch.as_tensor(value) for name, value in tensors.items()}
    return WeightStats(torch.as_tensor(weight), torch.Generator().manual_seed(seed), **known)


def block_stats(*weights, seed=0, **numbers):
    """Make the statistics of a block from its weights, or from the statistics of its weights."""
    made = [weight if isinstance(weight, WeightStats) else weight_stats(weight) for weight in weights]
    return BlockStats(made, torch.Generator().manual_seed(seed), **numbers)
