"""Text: language modelling on one text file, for models that predict the next token."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from sparsify.data.classification import Batches
from sparsify.data.labelled import LabelledBatch, check_size, check_split, device_of
from sparsify.data.logits import logits_of
from sparsify.data.tokens import read
from sparsify.errors import InputError, UsageError
from sparsify.task import Score, Split, mean_score

__all__ = ["Text"]

_INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "input_ids": lambda ids: ids,
    "attention_mask": torch.ones_like,
    "position_ids": lambda ids: torch.arange(ids.shape[1], device=ids.device).expand_as(ids),
}


@dataclass(frozen=True)
class Text:
    """Predict the next token of a text, byte by byte or as a tokenizer divides it.

    Batches hold tokens int64 `[N, length]` and the tokens that follow them, of the same shape. Examples lie one after
    the other and do not overlap; what is left at the end of a split is not used. The last part of the file is the
    validation split. The loss is the mean cross-entropy of a token in nats; the score is minus that of the validation
    split, its interval that of the mean over examples, n the number of tokens that were predicted.

    A model is called with the tokens as its first input, which captured models accept whatever the input is called; a
    model that needs more is called by keyword, with the names in `inputs`. A program that was captured with one length
    needs the same `length` here.

    Attributes:
        file: the text.
        length: of an example, in tokens.
        batch_size: examples in a batch.
        validation: the share of the tokens, from the end of the file, to validate with.
        tokenizer: a tokenizer.json, or the folder of a tokenizer; without it tokens are bytes, 0 to 255.
        inputs: names of a model's inputs, where it needs several, of input_ids, attention_mask and position_ids.

    Raises:
        InputError: the text or the tokenizer cannot be read, or a split is shorter than one example.
        UsageError: an option is out of its range, or the model does not take the tokens or give logits for them.

    Reference: Bengio, Ducharme, Vincent and Jauvin, A Neural Probabilistic Language Model, 2003.
    """

    name: ClassVar[str] = "text"
    file: str
    length: int = 128
    batch_size: int = 32
    validation: float = 0.1
    tokenizer: str | None = None
    inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1:
            raise UsageError(f"text: validation={self.validation:g} is not between 0 and 1.")
        if self.length < 1:
            raise UsageError(f"text: length={self.length} is not positive.")
        if self.inputs and ("input_ids" not in self.inputs or not set(self.inputs) <= set(_INPUTS)):
            raise UsageError(
                f"text: inputs={','.join(self.inputs)} must have input_ids and be of {', '.join(_INPUTS)}."
            )

    def batches(self, split: Split, *, seed: int = 0) -> Batches:
        """Go once through a split; `train` in an order given by `seed`, without a smaller last batch."""
        check_split(self.name, split)
        windows = self._windows(split)
        check_size(self.name, self.batch_size, split, len(windows))
        inputs, targets = windows[:, :-1], windows[:, 1:]
        if split == "validation":
            return Batches(inputs, targets, self.batch_size, prepare=_as_integers)
        return Batches(inputs, targets, self.batch_size, seed, partial=False, prepare=_as_integers)

    def loss(self, model: nn.Module, batch: LabelledBatch) -> Tensor:
        """Return the mean cross-entropy of a batch's tokens, in nats."""
        return self._losses(model, batch).mean()

    def score(self, model: nn.Module) -> Score:
        """Return minus the mean cross-entropy on the validation split; higher is better."""
        device = device_of(model)
        found: list[float] = []
        with torch.no_grad():
            for inputs, targets in self.batches("validation"):
                losses = self._losses(model, (inputs.to(device), targets.to(device)))
                found += (-losses.double().mean(1)).tolist()
        return mean_score(found, "negative cross-entropy", len(found) * self.length)

    def example(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the first 8 training examples."""
        return self._called(self._windows("train")[:8, :-1].long())

    def _called(self, ids: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return positional and keyword inputs."""
        return ((), {name: _INPUTS[name](ids) for name in self.inputs}) if self.inputs else ((ids,), {})

    def _losses(self, model: nn.Module, batch: LabelledBatch) -> Tensor:
        """Return the cross-entropy of every token, `[N, length]`."""
        ids, targets = batch
        self._check(model)
        args, kwargs = self._called(ids)
        try:
            logits = logits_of(model(*args, **kwargs), "batch, tokens, vocabulary")
            if logits.shape[:2] != ids.shape:
                raise UsageError(f"The model returned logits {list(logits.shape)} for tokens {list(ids.shape)}.")
            return nn.functional.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")
        except IndexError as error:
            raise UsageError(
                f"The model fails on the tokens of {self.file}, of which the largest is {int(targets.max())}: {error}. "
                "Its vocabulary may be smaller; give the model's own tokenizer=."
            ) from error

    def _check(self, model: nn.Module) -> None:
        """Refuse a model that says that it needs more than it would get."""
        parameters = inspect.signature(model.forward).parameters.values()
        needed = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
        if (len(needed) > 1 and not self.inputs) or (self.inputs and not set(needed) <= set(self.inputs)):
            raise UsageError(
                f"The model needs the inputs {', '.join(needed)}. If they are of {', '.join(_INPUTS)}, say "
                f"--task text:...,inputs={','.join(needed)}; otherwise write a task of your own."
            )

    def _windows(self, split: Split) -> Tensor:
        """Return the examples of a split, each with the token that follows it, `[N, length + 1]`."""
        cut = len(self._tokens) - round(self.validation * len(self._tokens))
        tokens = self._tokens[:cut] if split == "train" else self._tokens[cut:]
        if len(tokens) <= self.length:
            raise InputError(
                f"{self.file} has {len(tokens)} tokens for the split {split}, and an example of length={self.length} "
                "needs one more than that. Give a longer text, a shorter length or another validation=."
            )
        return tokens.unfold(0, self.length + 1, self.length)

    @cached_property
    def _tokens(self) -> Tensor:
        tokenizer = None if self.tokenizer is None else Path(self.tokenizer).expanduser()
        return read(Path(self.file).expanduser(), tokenizer)


def _as_integers(batch: LabelledBatch, generator: Generator | None) -> LabelledBatch:
    del generator
    inputs, targets = batch
    return inputs.long(), targets.long()
