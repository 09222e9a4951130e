"""Tickets: which part of a network is kept, and the weights that it starts from, as a file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sparsify.atomic import writing
from sparsify.coding.bits import BITMASK, packed, unpacked
from sparsify.errors import InputError, PassError, first_line
from sparsify.masking import masked, unmasked
from sparsify.naming import first_names
from sparsify.pass_manager import PassManager
from sparsify.program import Program
from sparsify.tickets.elastic import Stretch, matched
from sparsify.tickets.initialization import initial

__all__ = ["Ticket", "without"]

_FORMAT = 2
_KEY = "sparsify.ticket"
_DIGEST = "sparsify.digest"
_LENGTH = 8  # bytes of a safetensors file that say how long its header is


@dataclass(frozen=True)
class Ticket:
    """A part of a network that is worth training: a lottery ticket.

    Attributes:
        masks: by parameter name, True where a weight is kept.
        shapes: of all parameters of the network that it is a part of.
        removed: names of the blocks that are gone.
        weights: the parameters and buffers that it starts from; none where `init` makes them.
        init: how the weights are drawn, such as `{"init": "kaiming", "seed": 0}`, instead of weights.
        record: what made it: method, task, seed, scores.

    Reference: Frankle and Carbin, "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks", 2019.
    """

    masks: Mapping[str, Tensor]
    shapes: Mapping[str, tuple[int, ...]]
    removed: tuple[str, ...] = ()
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    init: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        start: Program,
        whole: Program,
        *,
        removed: tuple[str, ...] = (),
        init: Mapping[str, Any] | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> Ticket:
        """Return the ticket of a program.

        Args:
            start: with the masks, and with the weights to start from.
            whole: the network that it is a part of.
            removed: names of the blocks that `start` lacks.
            init: how the weights of `start` were drawn, if they need not be kept.
            record: what made it.
        """
        plain = unmasked(start)
        weights = {} if init else {**plain.parameters, **plain.buffers}
        shapes = {name: tuple(value.shape) for name, value in whole.parameters.items()}
        return cls(start.masks, shapes, removed, weights, init or {}, record or {})

    @property
    def sparsity(self) -> float:
        """Which share of the masked weights is pruned; blocks that are gone do not count."""
        total = sum(mask.numel() for mask in self.masks.values())
        return 1 - sum(int(mask.sum()) for mask in self.masks.values()) / total if total else 0.0

    def apply(
        self, program: Program, *, weights: bool = True, transfer: bool = False, stretch: Stretch = "no"
    ) -> Program:
        """Return a program with the ticket's masks, without its blocks and, if wanted, with its weights.

        Args:
            program: of the same architecture; masks of its own are replaced.
            weights: start from the ticket's weights, not from the program's.
            transfer: the program may have other ends, for another task: parameters that the ticket does not have, or
                has in another shape, stay dense and keep their weights.
            stretch: the program may be deeper or shallower: how its blocks correspond to the ticket's.

        Raises:
            PassError: the program is of another architecture.
        """
        program = unmasked(program)
        pairs = self.pairs(program, transfer=transfer, stretch=stretch)
        program = without(program, self.removed)
        before = program
        if weights and self.init:
            drawn = initial(program, int(self.init["seed"]), self.init["init"]).parameters
            program = _with(program, {name: drawn[name] for name in pairs if name in drawn})
        elif weights:
            program = _with(program, self._weights_for(before, pairs))
        masks = {name: self.masks[other] for name, other in pairs.items() if other in self.masks}
        return masked(program, {name: mask for name, mask in masks.items() if name in program.parameters})

    def pairs(self, program: Program, *, transfer: bool = False, stretch: Stretch = "no") -> dict[str, str]:
        """Return for each parameter of a program that the ticket is for the ticket's own, by name.

        Raises:
            PassError: the program is of another architecture.
        """
        own = {name: tuple(value.shape) for name, value in program.parameters.items()}
        if stretch != "no" and self.removed:
            raise PassError(
                f"The ticket lacks {first_names(self.removed)}, and a ticket without blocks cannot be stretched: apply "
                "it to a network of its own depth."
            )
        pairs = matched(self.shapes, own, stretch)
        if not transfer:
            self._check(own, pairs, stretch)
        fits = sum(math.prod(own[name]) for name in pairs)
        if fits * 2 < sum(map(math.prod, own.values())):
            strange = [name for name in own if name not in pairs]
            raise PassError(
                f"The ticket is for another architecture: less than half of the model is in it, not "
                f"{first_names(strange)}. transfer=yes is for other ends of the same network."
            )
        return pairs

    def save(self, path: str | Path) -> None:
        """Write the ticket: masks as bits, weights as they are.

        Raises:
            InputError: the path cannot be written.
        """
        tensors = {f"{name}{BITMASK}": packed(mask.cpu()) for name, mask in self.masks.items()}
        tensors |= {name: value.detach().cpu().contiguous().clone() for name, value in self.weights.items()}
        known = {
            "format": _FORMAT, "removed": self.removed, "init": dict(self.init), "record": dict(self.record),
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
        }  # fmt: skip
        text = json.dumps(known)
        with writing(path) as temporary:
            save_file(tensors, temporary, metadata={_KEY: text, _DIGEST: _digest(text, tensors)})

    @classmethod
    def load(cls, path: str | Path) -> Ticket:
        """Read a ticket; nothing in the file can run code.

        Raises:
            InputError: there is no such file, it is damaged, or it is no ticket.
        """
        text, tensors = _read(Path(path))
        known = json.loads(text)
        shapes = {name: tuple(shape) for name, shape in known["shapes"].items()}
        bits = {name.removesuffix(BITMASK): tensors.pop(name) for name in [*tensors] if name.endswith(BITMASK)}
        masks = {name: unpacked(value, shapes[name]) for name, value in bits.items()}
        return cls(masks, shapes, tuple(known["removed"]), tensors, known["init"], known["record"])

    def _check(self, own: Mapping[str, tuple[int, ...]], pairs: Mapping[str, str], stretch: Stretch) -> None:
        """Check that every parameter has its place."""
        blocks = stretch != "no"  # of which some are dropped or copied
        help_ = "transfer=yes leaves dense what does not fit, such as the head of another task"
        help_ += "" if blocks else "; stretch=append is for other depths"
        for kind, names in (
            ("lacks", [name for name in self.shapes if name not in own and not blocks]),
            ("has also", [name for name in own if name not in self.shapes and name not in pairs]),
        ):
            if names:
                raise PassError(
                    f"The ticket is for another architecture: the model {kind} {first_names(names)}. {help_}."
                )
        for name, shape in self.shapes.items():
            if name in own and name not in pairs:
                raise PassError(
                    f"The ticket is for another architecture: {name} is {list(shape)} there and {list(own[name])} "
                    f"here. {help_}."
                )

    def _weights_for(self, program: Program, pairs: Mapping[str, str]) -> dict[str, Tensor]:
        """Return the ticket's weights by the names that they have in a program, and buffers beside them."""
        found = {name: self.weights[other] for name, other in pairs.items() if other in self.weights}
        modules = {name.rpartition(".")[0]: other.rpartition(".")[0] for name, other in pairs.items()}
        for name, value in program.buffers.items():
            module, _, last = name.rpartition(".")
            source = self.weights.get(f"{modules.get(module, module)}.{last}".lstrip("."))
            if source is not None and source.shape == value.shape:
                found[name] = source
        return found


def _read(path: Path) -> tuple[str, dict[str, Tensor]]:
    """Return what a ticket's file says and its tensors, when both are as they were written."""
    if not path.is_file():
        raise InputError(f"The ticket {path} cannot be read: no such file.")
    with path.open("rb") as data:
        if data.read(_LENGTH + 1)[_LENGTH:] != b"{":
            raise InputError(f"{path} is no ticket; `--retrain lth` writes them.")
    try:
        with safe_open(str(path), framework="pt") as file:
            known = file.metadata() or {}
            if _KEY not in known:
                raise InputError(f"{path} is no ticket; `--retrain lth` writes them.")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- it is no mapping
    except (SafetensorError, ValueError, OSError) as error:
        raise InputError(f"The ticket {path} is damaged: {first_line(error)}.") from error
    if _DIGEST not in known:
        raise InputError(f"{path} is no ticket of this version of sparsify; `--retrain lth` writes them.")
    if known[_DIGEST] != _digest(known[_KEY], tensors):
        raise InputError(f"The ticket {path} is damaged: it is not what was written. Copy or make it again.")
    return known[_KEY], tensors


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of what a ticket's file says and of its tensors."""
    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        found.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        found.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def without(program: Program, blocks: Sequence[str]) -> Program:
    """Return a program without some blocks, one after the other: what can be removed depends on what is there."""
    for name in blocks:
        manager = PassManager([f"layer-prune:blocks={name}"], asked=f"without {name}")
        program = replace(manager.run(program), history=program.history)
    return program


def _with(program: Program, weights: Mapping[str, Tensor]) -> Program:
    parameters = {
        name: nn.Parameter(weights[name].to(old.device, old.dtype), requires_grad=old.requires_grad)
        for name, old in program.parameters.items()
        if name in weights
    }
    buffers = {name: weights[name].to(old.device) for name, old in program.buffers.items() if name in weights}
    return replace(program, parameters={**program.parameters, **parameters}, buffers={**program.buffers, **buffers})
