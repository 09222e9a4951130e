"""Interspace: filters as coefficients on a basis that is trained with them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from sparsify.embedding import Embedding, embedded, unused
from sparsify.errors import PassError
from sparsify.layout import Layout
from sparsify.program import Program

__all__ = ["Basis", "interspace"]

Basis: TypeAlias = Literal["standard", "random"]


def interspace(
    program: Program, layouts: Mapping[str, Layout], *, basis: Basis = "standard", shared: bool = True, seed: int = 0
) -> Program:
    """Return the program with filters made of coefficients on a trained basis: W[o, i] = Σ_k c[o, i, k] B_k.

    Kernels of n places have n basis filters. The coefficients have the shape and the name of the weight, so that they
    are masked where it would be; a basis is a parameter `basis_3x3`. The function stays: bits do with the standard
    basis (B_k is one at place k, and c = W), values but for rounding with a random orthonormal one (c = W Bᵀ).

    Args:
        program: is not changed.
        layouts: how the weights are read; those without a kernel of several places are left out.
        basis: where it starts.
        shared: one basis for all kernels of a size, or one for each layer.
        seed: of a random basis.

    Raises:
        PassError: no weight has a kernel, or one is masked or embedded already.

    Reference: Wimmer et al., "Interspace Pruning: Using Adaptive Filter Representations to Improve Training of Sparse
    CNNs", 2022.
    """
    groups = defaultdict[str, list[str]](list)
    for name, layout in layouts.items():
        weight = program.parameters[name]
        kernel = [weight.shape[dim] for dim in layout.kernel]
        if math.prod(kernel) > 1 and list(layout.kernel) == list(range(weight.ndim - len(kernel), weight.ndim)):
            size = "x".join(map(str, kernel))
            groups[f"basis_{size}_{weight.dtype}" if shared else f"{name}_basis"].append(name)
    if not groups:
        raise PassError("The interspace is for convolutions whose kernels have several places, and there is none.")
    made, trainable = dict[str, Embedding](), dict[str, Tensor]()
    for number, (key, names) in enumerate(groups.items()):
        first = program.parameters[names[0]].detach()
        kernel = [first.shape[dim] for dim in layouts[names[0]].kernel]
        matrix = _start(math.prod(kernel), basis, seed + number).to(first.device)
        target = unused(program, key.partition("_torch")[0])
        target += "_" * (target in trainable)
        trainable[target] = matrix.to(first.dtype).view(-1, *kernel)
        for name in names:
            made[name] = Embedding(_filters, (name, target))
            if basis == "random":
                weight = program.parameters[name].detach()
                rows = weight.reshape(-1, len(matrix)).double() @ matrix.t()
                trainable[name] = rows.to(weight.dtype).view_as(weight)
    return embedded(program, made, trainable=trainable)


def _filters(coefficients: Tensor, basis: Tensor) -> Tensor:
    places = basis.shape[0]
    return (coefficients.reshape(-1, places) @ basis.view(places, places)).view(coefficients.shape)


def _start(size: int, basis: Basis, seed: int) -> Tensor:
    """Return the basis filters as rows of an orthonormal matrix, in float64."""
    if basis == "standard":
        return torch.eye(size, dtype=torch.float64)
    normal = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    rows: Tensor = torch.linalg.qr(normal)[0]
    return rows
