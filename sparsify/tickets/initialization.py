"""Initialization: all parameters of a program drawn anew."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from sparsify.embedding import embedded_names
from sparsify.errors import OptionError
from sparsify.layers import layers
from sparsify.layout import Layout
from sparsify.norms import batch_norms, norm_scales
from sparsify.program import Program

__all__ = ["Init", "initial"]

Init: TypeAlias = Literal["torch", "kaiming", "xavier", "sign", "shuffle"]


def initial(program: Program, seed: int, init: Init = "torch") -> Program:
    """Return a program whose parameters are drawn anew and whose running statistics start again; masks stay.

    Weights of layers follow `init`: `torch` is what torch's layers do, uniform within 1/√fan-in; `kaiming` is normal
    with the variance 2/fan-in; `xavier` uniform within √(6/(fan-in + fan-out)); `sign` is plus or minus √(2/fan-in), a
    coin for each. Vectors that scale (of norms, of
    residual branches) become one, slopes of PReLU a quarter, other vectors zero, embeddings normal with the deviation
    0.02. `shuffle` instead puts the values of every parameter of two and more dimensions in random places of it, which
    keeps their distribution. A graph does not say how its model was initialised: where that matters, as it may for
    biases and scales of branches, retrain the model's own initial weights.

    Args:
        program: is not changed.
        seed: together with a parameter's name it decides its values.
        init: how.

    Reference: He et al., "Delving Deep into Rectifiers", 2015; Glorot and Bengio, "Understanding the Difficulty of
    Training Deep Feedforward Neural Networks", 2010; Zhou et al., "Deconstructing Lottery Tickets", 2019 (signs of one
    size).

    Raises:
        OptionError: weights are made of others.
    """
    if set(embedded_names(program)) - set(program.frozen):
        raise OptionError("Weights cannot be drawn anew (init=) where others make them; embed what has been drawn.")
    layouts = {layer.parameter: layer.layout for layer in layers(program)}
    scales, slopes = norm_scales(program), _slopes(program)
    parameters = {}
    for name, old in program.parameters.items():
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
        if old.ndim < 2:
            drawn = torch.full(old.shape, 1.0 if name in scales else 0.25 if name in slopes else 0.0)
        elif init == "shuffle":
            drawn = old.detach().cpu().flatten()[torch.randperm(old.numel(), generator=generator)].view(old.shape)
        elif name in layouts:
            drawn = _drawn(old.shape, layouts[name], init, generator)
        else:
            drawn = 0.02 * torch.randn(old.shape, generator=generator)
        parameters[name] = nn.Parameter(drawn.to(old.device, old.dtype), requires_grad=old.requires_grad)
    buffers = dict(program.buffers)
    for node in batch_norms(program):
        for place, value in ((3, 0.0), (4, 1.0)):
            name = str(node.args[place].target)  # type: ignore[union-attr]
            buffers[name] = torch.full_like(buffers[name], value)
    return replace(program, parameters=parameters, buffers=buffers)


def _slopes(program: Program) -> set[str]:
    """Return the names of the slopes of PReLU."""
    nodes = [node for node in program.graph.nodes if node.target is torch.ops.aten.prelu.default]
    return {str(node.args[1].target) for node in nodes}


def _drawn(shape: torch.Size, layout: Layout, init: Init, generator: torch.Generator) -> Tensor:
    _, fan_out, fan_in = layout.sizes(shape)
    if init == "kaiming":
        return math.sqrt(2 / fan_in) * torch.randn(shape, generator=generator)
    if init == "sign":
        return math.sqrt(2 / fan_in) * (2.0 * torch.randint(0, 2, shape, generator=generator) - 1)
    bound = math.sqrt(6 / (fan_in + fan_out)) if init == "xavier" else 1 / math.sqrt(fan_in)
    return bound * (2 * torch.rand(shape, generator=generator) - 1)
