"""Statistics made by hand, for the tests of criteria."""

import torch

from sparsify.criteria import BlockStats, ChannelStats, WeightStats
from sparsify.layout import Layout
from sparsify.measuring import collect
from sparsify.observation.calibration import Calibration
from sparsify.observation.signals import block_signals
from sparsify.observation.subject import Subject


def known(tensors):
    return {name.replace("_", "-"): torch.as_tensor(value) for name, value in tensors.items()}


def source(seed):
    return torch.Generator().manual_seed(seed)


def weight_stats(weight, seed=0, layout=None, **tensors):
    """Make the statistics of one weight from nested lists; `hessian_gradient=` is the statistic hessian-gradient."""
    weight = torch.as_tensor(weight)
    layout = layout or Layout((0,), tuple(range(1, weight.ndim)))
    return WeightStats(weight=weight, layout=layout, generator=source(seed), found=known(tensors))


def channel_stats(size, seed=0, *, made=(), used=(), scales=(), **tensors):
    """Make the statistics of the channels of a group."""
    made, used, scales = ([torch.as_tensor(value) for value in values] for values in (made, used, scales))
    return ChannelStats(size=size, made=made, used=used, scales=scales, generator=source(seed), found=known(tensors))


def block_stats(*weights, seed=0, channels=None, **numbers):
    """Make the statistics of a block from its weights, or from the statistics of its weights."""
    made = [weight if isinstance(weight, WeightStats) else weight_stats(weight) for weight in weights]
    return BlockStats(weights=made, channels=channels, generator=source(seed), found=known(numbers))


def measure(program, needs, task=None, blocks=(), signals=None, **options):
    """Collect statistics of all parameters of a program, and of blocks."""
    signals = block_signals(program, blocks) if signals is None else signals
    subject = Subject(program, Calibration(task, **options), list(program.parameters), signals, blocks)
    return collect(subject, needs)
