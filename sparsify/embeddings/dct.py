"""DCT plus sparse: dense weights of cosines that nobody stores, and a few trained ones on top."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from sparsify.allocation import counts, erdos_renyi, uniform
from sparsify.embedding import Embedding, embedded, unused
from sparsify.kernels.seeded import seeded
from sparsify.layout import Layout
from sparsify.masking import masked
from sparsify.program import Program

__all__ = ["dct"]


def dct(
    program: Program, layouts: Mapping[str, Layout], *, sparsity: float, allocation: str = "erk", seed: int = 0
) -> Program:
    """Return the program with weights W = α D + m ⊙ S, of which α and the S at the places of the mask m are trained.

    D is a part of a cosine matrix, C[i, j] = cos(π i (2j + 1) / 2n) for i > 0 and √½ for i = 0, n the larger of rows
    `O` and columns `I·kernel`, which come from C in an order that a seed decides. It is computed again where it is
    needed. S starts at zero, at places that are drawn at random, exactly as many as `sparsity` leaves of all; it has
    the name of the weight, so that masks of it are masks of the weight. α starts so that D has the quadratic mean of
    the weight, which is given up.

    Args:
        program: is not changed.
        layouts: how the weights are read.
        sparsity: which fraction of S is zero.
        allocation: `uniform`, or `erk`, by fan-in and fan-out.
        seed: of D and of the places.

    Raises:
        PassError: a weight is masked or embedded already.

    Reference: Price and Tanner, "Dense for the Price of Sparse: Improved Performance of Sparsely Initialized Networks
    via a Subspace Offset", 2021.
    """
    source = unused(program, "embedding_seed")
    number = torch.tensor(seed & 0xFFFFFFFF, device=program.parameters[next(iter(layouts))].device)
    made, trainable = dict[str, Embedding](), dict[str, Tensor]()
    for stream, name in enumerate(layouts):
        weight = program.parameters[name].detach()
        function = _weight(stream, weight)
        scale = unused(program, f"{name}_scale")
        offset = function(torch.zeros_like(weight), weight.new_ones(()), number)
        trainable[name] = torch.zeros_like(weight)
        trainable[scale] = weight.double().square().mean().sqrt() / offset.double().square().mean().sqrt()
        trainable[scale] = trainable[scale].to(weight.dtype)
        made[name] = Embedding(function, (name, scale, source))
    after = embedded(program, made, trainable=trainable, fixed={source: number})
    return masked(after, _places(program, layouts, 1 - sparsity, allocation, seed))


def _weight(stream: int, like: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    rows, columns = len(like), math.prod(like.shape[1:])
    size = max(rows, columns)

    def function(sparse: Tensor, scale: Tensor, seed: Tensor) -> Tensor:
        ours = [
            seeded(seed, 2 * stream + side, [size]).argsort(stable=True)[:count]
            for side, count in enumerate((rows, columns))
        ]
        angles = ours[0][:, None] * (2 * ours[1] + 1) % (4 * size)  # whole numbers: no angle is large
        cosines = (angles.double() * (math.pi / (2 * size))).cos()
        offset = torch.where(ours[0][:, None] == 0, math.sqrt(0.5), cosines).to(sparse.dtype)
        return sparse + scale * offset.view(sparse.shape)

    return function


def _places(
    program: Program, layouts: Mapping[str, Layout], density: float, allocation: str, seed: int
) -> dict[str, Tensor]:
    shapes = [program.parameters[name].shape for name in layouts]
    sizes = [math.prod(shape) for shape in shapes]
    if allocation == "erk":
        fans = [
            (shape[layout.outputs[0]], math.prod(shape[dim] for dim in layout.inputs),
             *(shape[dim] for dim in (*layout.outputs[1:], *layout.kernel)))
            for layout, shape in zip(layouts.values(), shapes, strict=True)
        ]  # fmt: skip
        densities = erdos_renyi(fans, sizes, density)
    else:
        densities = uniform(sizes, density, [1.0] * len(sizes))
    kept = max(1, math.floor(density * sum(sizes) + 0.5 + 1e-9))
    gone = counts(densities, sizes, sum(sizes) - kept)
    generator = torch.Generator().manual_seed(seed)
    draw = partial(torch.randperm, generator=generator)
    return {
        name: (draw(size) >= count).view(shape)
        for name, size, count, shape in zip(layouts, sizes, gone, shapes, strict=True)
    }
