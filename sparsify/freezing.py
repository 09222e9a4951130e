"""Freezing: some values of a weight are trained, the others stay at values that are stored or drawn from a seed.

A frozen weight is the embedding Θ = where(mask, ϑ, base). The trained ϑ keeps the weight's name and is zero at frozen
places, where no gradient reaches it. The base is a buffer, or computed again from a 32-bit seed that the whole model
shares, so that it costs nothing to keep.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, fx, nn

from sparsify.embedding import Embedding, embedded
from sparsify.errors import PassError, UsageError
from sparsify.graph import mask_nodes
from sparsify.kernels.seeded import seeded
from sparsify.layers import layers
from sparsify.masking import with_strides
from sparsify.naming import first_are, first_names
from sparsify.program import Program
from sparsify.tickets.initialization import initial

__all__ = [
    "SEED",
    "Draw",
    "DrawInit",
    "check_seed",
    "draws",
    "frozen",
    "frozen_draws",
    "frozen_weights",
    "redrawn",
    "stream_of",
    "thawed",
]

SEED = "sparsify_seed"  # the buffer that holds the seed of all values that are drawn from one

_HOW = torch.ops.sparsify.seeded.default._schema.arguments[3:5]  # distribution and scale

DrawInit: TypeAlias = Literal["torch", "kaiming", "xavier", "sign"]


@dataclass(frozen=True)
class Draw:
    """How the values of a weight are drawn from a seed; the stream is a hash of the weight's name.

    Attributes:
        distribution: uniform, normal or sign, as `sparsify.kernels.seeded` has them.
        scale: bound, deviation or size.
    """

    distribution: str
    scale: float

    def __call__(self, seed: Tensor, name: str, like: Tensor) -> Tensor:
        """Return the values of the weight `name`, of the shape and type of `like`, on the device of the seed."""
        found: Tensor = seeded(seed, stream_of(name), like.shape, self.distribution, self.scale, like.dtype)
        return found


def stream_of(name: str) -> int:
    """Return the stream of `sparsify.kernels.seeded` that the weight `name` is drawn from."""
    return zlib.crc32(name.encode())


def frozen(
    program: Program,
    masks: Mapping[str, Tensor],
    seed: int | None = None,
    init: DrawInit | Mapping[str, Draw] = "torch",
) -> Program:
    """Return the program with some weights frozen in part: Θ = where(mask, ϑ, base).

    Without a seed the base is what the weight is now, in a buffer `<name>_base`: the function stays. With one it is
    drawn from the seed; the function stays where that is what the weight is now, as after `redrawn`.

    Args:
        program: any program.
        masks: by parameter name, boolean tensors of the parameters' shapes, True where the weight is trained.
        seed: of the base, 32 bits.
        init: how the base is drawn: as `redrawn` does, or for each weight.

    Raises:
        PassError: a weight is masked or frozen already; or with a seed, no layer reads it, or others have another seed.
        UsageError: the seed has more than 32 bits.
        ValueError: a mask has another shape or type.
    """
    known = draws(program, list(masks), init) if seed is not None and isinstance(init, str) else init
    fixed: dict[str, Tensor] = {}
    made, trained = {}, {}
    for name, mask in masks.items():
        weight = program.parameters[name].detach()
        if mask.dtype != torch.bool or mask.shape != weight.shape:
            raise ValueError(f"the mask of {name} is {mask.dtype}{list(mask.shape)}, not bool{list(weight.shape)}")
        place = _free(program, f"{name}_mask")
        fixed[place] = with_strides(mask, weight)
        trained[name] = torch.where(fixed[place], weight, 0.0)
        if seed is None:
            base = _free(program, f"{name}_base")
            fixed[base] = weight.clone()
            made[name] = Embedding(_chosen, (name, place, base))
        else:
            assert isinstance(known, Mapping)
            fixed[SEED] = _seed(program, seed, weight.device)
            made[name] = Embedding(_drawing(known[name], name), (name, place, SEED))
    return embedded(program, made, trainable=trained, fixed=fixed)


def redrawn(program: Program, seed: int, init: DrawInit = "torch") -> Program:
    """Return a program whose parameters are drawn anew and whose running statistics start again; masks stay.

    Weights of layers are drawn from the seed, the same bits on every machine, so that they need not be kept where they
    stay: `torch` is uniform within 1/√fan-in, as torch's layers do; `kaiming` normal with the variance 2/fan-in;
    `xavier` uniform within √(6/(fan-in + fan-out)); `sign` is ±√(2/fan-in). Others get what
    `sparsify.tickets.initialization` gives them.

    Raises:
        PassError: the program has frozen weights.
        UsageError: the seed has more than 32 bits.
    """
    if program.frozen:
        raise PassError(f"{first_are(list(program.frozen))} frozen; weights are drawn anew before they are.")
    check_seed(seed)
    started = initial(program, seed)
    known = draws(program, [layer.parameter for layer in layers(program)], init)
    parameters = dict(started.parameters)
    for name, draw in known.items():
        old = parameters[name]
        if old.ndim > 1:  # as `initial` has it, vectors are biases and scales, whoever reads them
            drawn = draw(torch.tensor(seed, device=old.device), name, old)
            parameters[name] = nn.Parameter(drawn, requires_grad=old.requires_grad)
    return replace(started, parameters=parameters)


def draws(program: Program, names: list[str], init: DrawInit) -> dict[str, Draw]:
    """Return how each of some weights is drawn.

    Raises:
        PassError: no layer reads one, so that nothing says how large its values should be.
    """
    layouts = {layer.parameter: layer.layout for layer in reversed(layers(program))}
    if strange := [name for name in names if name not in layouts]:
        raise PassError(f"{first_names(strange)} cannot be drawn from a seed: no layer reads such weights.")
    found = {}
    for name in names:
        _, fan_out, fan_in = layouts[name].sizes(program.parameters[name].shape)
        if init in ("kaiming", "sign"):
            found[name] = Draw("normal" if init == "kaiming" else "sign", math.sqrt(2 / fan_in))
        else:
            bound = math.sqrt(6 / (fan_in + fan_out)) if init == "xavier" else 1 / math.sqrt(fan_in)
            found[name] = Draw("uniform", bound)
    return found


def frozen_draws(program: Program) -> dict[str, Draw]:
    """Return how the bases of those frozen weights are drawn that come from a seed; the others are stored."""
    found = {}
    for node in mask_nodes(program.graph):
        base = node.args[2]
        if isinstance(base, fx.Node) and base.target is seeded:
            given: list[Any] = list(base.args[3:5])  # without what is as the operator assumes it
            given += [argument.default_value for argument in _HOW[len(given) :]]
            found[str(node.all_input_nodes[1].target)] = Draw(str(given[0]), float(given[1]))
    return found


def frozen_weights(program: Program) -> str:
    """Say how many weights are frozen, and how they are kept; nothing if none is."""
    masks, drawn = program.frozen, frozen_draws(program)
    if not masks:
        return ""
    counts = {True: 0, False: 0}
    for name, mask in masks.items():
        counts[name in drawn] += int((~mask).sum())
    total = sum(mask.numel() for mask in masks.values())
    text = f"{sum(counts.values()):,} of {total:,} weights"
    if not drawn:
        return f"{text}, stored"
    seed = f"computed from the seed {int(program.buffers[SEED]) & 0xFFFFFFFF}"
    return f"{text}, {seed}" if len(drawn) == len(masks) else f"{text}, {counts[True]:,} of them {seed}, others stored"


def thawed(program: Program) -> Program:
    """Return the program with nothing frozen: every frozen weight is a parameter with the values that it computes."""
    graph = program.copy_graph()
    parameters, masks = dict(program.parameters), program.frozen
    for node in mask_nodes(graph):
        name, base = str(node.all_input_nodes[1].target), node.args[2]
        if name not in masks or not isinstance(base, fx.Node):
            continue
        with torch.no_grad():
            value = torch.where(masks[name], parameters[name], _value(base, {**program.parameters, **program.buffers}))
        parameters[name] = nn.Parameter(value, requires_grad=parameters[name].requires_grad)
        for user in list(node.users):  # behind it a marker says whose value it is
            user.replace_all_uses_with(node.all_input_nodes[1])
    return replace(program, parameters=parameters).with_graph(graph)


def _value(node: fx.Node, state: Mapping[str, Tensor]) -> Tensor:
    """Compute a node that depends on the state alone."""
    if node.op == "get_attr":
        return state[str(node.target)]
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda value: _value(value, state))
    found: Tensor = node.target(*args, **kwargs)  # type: ignore[operator]
    return found


def _chosen(weight: Tensor, mask: Tensor, base: Tensor) -> Tensor:
    return torch.where(mask, weight, base)


def _drawing(draw: Draw, name: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def made(weight: Tensor, mask: Tensor, seed: Tensor) -> Tensor:
        return torch.where(mask, weight, draw(seed, name, weight))

    return made


def _seed(program: Program, seed: int, device: torch.device) -> Tensor:
    check_seed(seed)
    known = program.buffers.get(SEED)
    if known is None:
        return torch.tensor(seed, device=device)
    if int(known) != seed:
        raise PassError(f"Weights are frozen with the seed {int(known)} already, and a model has only one, not {seed}.")
    return known


def check_seed(seed: int) -> None:
    """Refuse a seed that is not one of 32 bits.

    Raises:
        UsageError: it is negative, or too large.
    """
    if not 0 <= seed < 1 << 32:
        raise UsageError(f"The seed {seed} does not fit into 32 bits: it is one of 0 to {(1 << 32) - 1}.")


def _free(program: Program, name: str) -> str:
    while name in program.buffers or name in program.parameters:
        name += "_"
    return name
