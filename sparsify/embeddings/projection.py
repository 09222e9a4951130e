"""Random projection: parameters that move in a random subspace alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sparsify.allocation import at_least, counts
from sparsify.embedding import Embedding, embedded, unused
from sparsify.errors import PassError
from sparsify.kernels.orthogonal import orthogonal
from sparsify.program import Program

__all__ = ["projection"]


def projection(
    program: Program, names: Sequence[str], dimension: int, *, shared: bool = True, seed: int = 0
) -> Program:
    """Return the program with parameters Θ = Θ0 + √(D/d) P ϑ, of which ϑ, `dimension` zeros at first, is trained.

    P `[D, d]` is random with orthonormal columns, and comes from a seed. With the factor a step in ϑ takes Θ about as
    far as the same step of all parameters would: SGD moves it by (D/d) P Pᵀg, whose mean is g, and Adam by η√D. So
    learning rates near those of dense training fit; SGD needs smaller ones where d is small. The function stays, bit
    for bit, as long as ϑ is zero.

    Args:
        program: is not changed.
        names: of the parameters; their values become buffers `<name>_start`.
        dimension: d, for all of them together.
        shared: one P for all of them together; or one for each, with coordinates in proportion to its size.
        seed: of P.

    Raises:
        PassError: there are fewer parameters than coordinates, or one is masked or embedded already.

    Reference: Li et al., "Measuring the Intrinsic Dimension of Objective Landscapes", 2018.
    """
    sizes = [program.parameters[name].numel() for name in names]
    least = 1 if shared else len(names)
    if not least <= dimension <= sum(sizes):
        raise PassError(f"dimension={dimension} is not between {least:,} and {sum(sizes):,}, the number of values.")
    of_each = [dimension]
    groups = [list(names)]
    if not shared:
        share = dimension / sum(sizes)
        gone = counts([share] * len(sizes), sizes, sum(sizes) - dimension)
        of_each = at_least([size - count for size, count in zip(sizes, gone, strict=True)], [1] * len(sizes))
        groups = [[name] for name in names]
    source = unused(program, "embedding_seed")
    first = program.parameters[names[0]]
    fixed = {source: torch.tensor(seed & 0xFFFFFFFF, device=first.device)}
    made, trainable = dict[str, Embedding](), dict[str, Tensor]()
    for stream, (group, count) in enumerate(zip(groups, of_each, strict=True)):
        ours = unused(program, "coordinates" if shared else f"{group[0]}_coordinates")
        numbers = torch.promote_types(program.parameters[group[0]].dtype, torch.float32)
        trainable[ours] = torch.zeros(count, dtype=numbers, device=first.device)
        lengths = [program.parameters[name].numel() for name in group]
        for name, offset in zip(group, itertools.accumulate(lengths, initial=0), strict=False):
            start = unused(program, f"{name}_start")
            fixed[start] = program.parameters[name].detach().clone()
            made[name] = Embedding(_moved(stream, offset, sum(lengths)), (start, ours, source))
    return embedded(program, made, trainable=trainable, fixed=fixed)


def _moved(stream: int, offset: int, total: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def function(start: Tensor, coordinates: Tensor, seed: Tensor) -> Tensor:
        path: Tensor = orthogonal(coordinates, seed, stream, total) * math.sqrt(total / len(coordinates))
        return start + path.narrow(0, offset, start.numel()).view(start.shape).to(start.dtype)

    return function
