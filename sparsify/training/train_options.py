"""Options of training: how long, how fast, in which numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from sparsify.errors import OptionError, UsageError
from sparsify.parallel.tensors import is_sharded, laid_out_like
from sparsify.schedules import parse_steps

__all__ = ["TrainOptions", "load_optimizer"]

_NUMBERS = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    Attributes:
        finds_ticket: the result of a method can be written to a `.ticket` file.
        plain: a method is one training with these options and nothing else.
        refuses: options that a method has no use for.
        steps: length of the run, `500it` or `10ep`.
        learning_rate: its highest value.
        optimizer: sgd (with momentum) or adamw; adamw without weight decay is Adam.
        momentum: of sgd; for adamw β₁, with β₂ = 0.999.
        weight_decay: applied to parameters of two and more dimensions: not to biases and norms.
        schedule: how the learning rate falls after the warm-up.
        warmup: length of the linear rise of the learning rate, `100it` or `1ep`.
        clip: the highest norm of the gradient of all parameters together; longer ones are scaled down to it.
        precision: the numbers of the forward pass: fp32, or bf16 or (on a GPU) fp16 where torch's autocast allows it;
            weights stay as they are.
        compile: run the model through torch.compile.
        score_every: how often the score and the validation loss are measured on the way, `1ep`; 0it is never.
        audit: check after every step that pruned weights and their optimizer slots are zero.
        compact: keep of masked and frozen weights only the values that are trained, and so their gradients and
            optimizer slots; whole weights are made where they are used. Needs masks that stay as they are.

    Raises:
        UsageError: a value is out of its range.
    """

    finds_ticket: ClassVar[bool] = False
    plain: ClassVar[bool] = False
    refuses: ClassVar[tuple[str, ...]] = ()

    steps: str = "10ep"
    learning_rate: float = 0.05
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["constant", "linear", "cubic", "cosine"] = "cosine"
    warmup: str = "0it"
    clip: float | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    score_every: str = "0it"
    audit: bool = False
    compact: bool = False

    def __post_init__(self) -> None:
        for name in self.refuses:
            free = "nothing is masked or frozen while this method trains"
            _require(not getattr(self, name), f"{free}: leave out --{name}")
        for text in (self.steps, self.warmup, self.score_every):
            parse_steps(text, 1)
        rate = self.learning_rate
        _require(rate is None or rate > 0, f"learning_rate={rate} is not positive")
        _require(0 <= self.momentum < 1, f"momentum={self.momentum} is not in [0, 1)")
        _require(self.weight_decay >= 0, f"weight_decay={self.weight_decay} is negative")
        _require(not (self.compact and self.compile), "compile=yes keeps whole weights for the backward pass, which "
                 "compact=yes is there to avoid; leave one out")  # fmt: skip
        _require(self.clip is None or self.clip > 0, f"clip={self.clip} is not positive")

    def make_optimizer(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer of some parameters; the fused kind, where torch has one for them."""
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        fused = all(
            p.is_floating_point() and p.device.type in ("cpu", "cuda") and not is_sharded(p) for p in parameters
        )
        if self.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=self.learning_rate, betas=(self.momentum, 0.999), fused=fused)
        return torch.optim.SGD(groups, lr=self.learning_rate, momentum=self.momentum, fused=fused)

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context of the forward pass.

        Raises:
            OptionError: the device has no such numbers.
        """
        if self.precision == "fp32":
            return contextlib.nullcontext()
        if self.precision == "fp16" and device.type != "cuda":
            raise OptionError("Training: precision=fp16 needs a GPU; take bf16 or fp32.")
        return torch.autocast(device.type, _NUMBERS[self.precision])


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Give an optimizer its slots, in shards where its parameters are; how it steps stays as it was made.

    Args:
        optimizer: that of other processes, or of another number of them, may have kept the state.
        state: what `optimizer.state_dict()` gave; its slots are replaced.
    """
    ordered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, slots in state["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor) and value.shape == ordered[number].shape:
                slots[name] = laid_out_like(value, ordered[number])
    optimizer.load_state_dict({**state, "param_groups": optimizer.state_dict()["param_groups"]})


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise UsageError(f"Training: {otherwise}.")
