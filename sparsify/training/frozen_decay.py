"""Decay: what is frozen goes towards zero during a training, as weights do that have no gradient.

All frozen values shrink by the same factor at every step, so one number follows them: a trainable matrix of one value,
which multiplies the bases, and whose gradient is zero. Whatever weight decay the optimizer does to weights, it does to
that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, fx

from sparsify.embedding import Embedding, embedded
from sparsify.freezing import SEED, Draw, frozen, frozen_draws, thawed
from sparsify.graph import mask_nodes
from sparsify.program import Program

__all__ = ["decaying", "settled"]

_FACTOR = "sparsify_decay"


def decaying(program: Program) -> Program:
    """Return a program with frozen weights whose bases decay as it is trained; `settled` ends that."""
    made, state = {}, {}
    draws = frozen_draws(program)
    plain = thawed(program)
    weight = next(iter(plain.parameters.values()))
    for name, mask in program.frozen.items():
        state[f"{name}_mask"] = mask
        if name in draws:
            state[SEED] = program.buffers[SEED]
            made[name] = Embedding(_drawn(draws[name], name), (name, f"{name}_mask", SEED, _FACTOR))
        else:
            state[f"{name}_base"] = plain.parameters[name].detach().clone()
            made[name] = Embedding(_stored, (name, f"{name}_mask", f"{name}_base", _FACTOR))
    trained = {name: program.parameters[name] for name in made}
    one = torch.ones(1, 1, device=weight.device, dtype=weight.dtype)
    return embedded(plain, made, trainable={**trained, _FACTOR: one}, fixed=state)


def settled(program: Program) -> tuple[Program, float]:
    """Return the program with the bases as they are now, and by which factor they have become smaller."""
    factor = program.parameters[_FACTOR].item()
    masks = dict(program.frozen)
    draws = {name: replace(draw, scale=draw.scale * factor) for name, draw in _draws(program).items()}
    seed = int(program.buffers[SEED]) if SEED in program.buffers else None
    plain = thawed(program)
    drawn = {name: mask for name, mask in masks.items() if name in draws}
    stored = {name: mask for name, mask in masks.items() if name not in draws}
    after = frozen(plain, stored) if stored else plain
    return frozen(after, drawn, seed, draws) if drawn else after, factor


def _draws(program: Program) -> dict[str, Draw]:
    """Return the draws that a factor multiplies."""
    found = {}
    for node in mask_nodes(program.graph):
        if isinstance(base := node.args[2], fx.Node) and base.op == "call_function":
            drawn = [value for value in base.all_input_nodes if value.target is torch.ops.sparsify.seeded.default]
            if drawn:
                distribution, scale = drawn[0].args[3:5]
                name = str(node.all_input_nodes[1].target)
                found[name] = Draw(str(distribution), float(scale))  # type: ignore[arg-type]
    return found


def _still(factor: Tensor) -> Tensor:
    """Return the factor with a gradient of zero, without which an optimizer leaves a parameter alone."""
    return factor.detach() + 0 * factor


def _stored(weight: Tensor, mask: Tensor, base: Tensor, factor: Tensor) -> Tensor:
    return torch.where(mask, weight, base * _still(factor))


def _drawn(draw: Draw, name: str) -> Callable[..., Tensor]:
    def made(weight: Tensor, mask: Tensor, seed: Tensor, factor: Tensor) -> Tensor:
        return torch.where(mask, weight, draw(seed, name, weight) * _still(factor))

    return made
