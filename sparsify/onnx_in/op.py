"""What the rule of an ONNX operator sees: its inputs and attributes, and the registry of rules.

A value is a tensor, or a `Host`: numbers that are known when the graph is captured, such as constants and shapes. In a
shape the batch may be symbolic, everything else is a number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsify.errors import InputError
from sparsify.onnx_in.graph import Step

__all__ = ["RULES", "SIZE_RULES", "Host", "Op", "Rule", "Value", "onnx_rule", "size_rule"]

Size = int | torch.SymInt


@dataclass(frozen=True)
class Host:
    """Numbers that are known without running anything.

    Attributes:
        array: the numbers; of type object where some are symbolic.
        dtype: what they are as a tensor.
        name: of the buffer that holds them as a tensor, if any.
    """

    array: Any
    dtype: torch.dtype
    name: str | None = None

    @classmethod
    def of(cls, values: Any, dtype: torch.dtype = torch.int64) -> Host:
        """Make one of numbers that may be symbolic; if none is, they become a plain array."""
        array = np.asarray(values, dtype=object)
        if not any(isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)) for value in array.flat):
            array = array.astype(str(dtype).removeprefix("torch."))
        return cls(array, dtype)

    @property
    def symbolic(self) -> bool:
        """Whether some number is not known yet."""
        return bool(self.array.dtype == object)

    def tensor(self, device: torch.device) -> Tensor:
        """Return the numbers as a new tensor."""
        if not self.symbolic:
            return torch.tensor(self.array.tolist(), dtype=self.dtype, device=device).reshape(self.array.shape)
        parts = [torch.scalar_tensor(value, dtype=self.dtype, device=device) for value in self.array.flat]
        return torch.stack(parts).reshape(self.array.shape)


Value = Tensor | Host


class Op:
    """An operator at work, as its rule sees it.

    Attributes:
        step: the operator in the file.
        opset: the version of ONNX's operators.
        training: whether the network is being trained.
        device: where new tensors go.
    """

    def __init__(
        self,
        step: Step,
        values: Sequence[Value | None],
        *,
        opset: int,
        training: bool = False,
        device: torch.device | None = None,
        constant: Callable[[Host], Tensor] | None = None,
    ) -> None:
        self.step, self.opset, self.training = step, opset, training
        self.device = device or torch.device("cpu")
        self._values = tuple(values)
        self._constant = constant or (lambda host: host.tensor(self.device))

    def __len__(self) -> int:
        return len(self._values)

    def has(self, index: int) -> bool:
        """Whether an input is given."""
        return index < len(self._values) and self._values[index] is not None

    def value(self, index: int) -> Value:
        """Return an input as it is.

        Raises:
            InputError: it is not given.
        """
        found = self._values[index] if index < len(self._values) else None
        if found is None:
            raise self.refused(f"its input {index} is missing")
        return found

    def tensor(self, index: int) -> Tensor:
        """Return an input as a tensor."""
        value = self.value(index)
        return self._constant(value) if isinstance(value, Host) else value

    def optional(self, index: int) -> Tensor | None:
        """Return an input as a tensor, or None if it is not given."""
        return self.tensor(index) if self.has(index) else None

    def operand(self, index: int) -> Any:
        """Return an input as a tensor, or as a number where it is a constant without dimensions."""
        value = self.value(index)
        return value.array.item() if isinstance(value, Host) and value.array.ndim == 0 else self.tensor(index)

    def numbers(self, index: int) -> list[Any]:
        """Return an input that says sizes, axes or bounds, flat.

        Raises:
            InputError: its values depend on what the model computes.
        """
        value = self.value(index)
        if not isinstance(value, Host):
            raise self.refused(f"its input {index} depends on values that the model computes, and must be known before")
        return list(value.array.reshape(-1).tolist())

    def number(self, index: int) -> Any:
        """Return an input that is one number."""
        found = self.numbers(index)
        if len(found) != 1:
            raise self.refused(f"its input {index} has {len(found)} values, and one is wanted")
        return found[0]

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or the default."""
        return self.step.attributes.get(name, default)

    def axes(self, index: int) -> list[int] | None:
        """Return axes, which are an attribute in old versions and an input in new ones; None if there are none."""
        if "axes" in self.step.attributes:
            return [int(axis) for axis in self.attribute("axes")]
        return [int(axis) for axis in self.numbers(index)] if self.has(index) else None

    def wants(self, output: int) -> bool:
        """Whether somebody reads an output."""
        return output < len(self.step.outputs) and self.step.outputs[output] is not None

    def only_first(self) -> None:
        """Refuse an operator of which more than the first output is read.

        Raises:
            InputError: it is one.
        """
        if more := next((name for name in self.step.outputs[1:] if name is not None), None):
            raise self.refused(f"its further output {more!r:.60} is read")

    def refused(self, reason: str) -> InputError:
        """Return the error that says why an operator cannot be read."""
        return InputError(f"{self.step.operator} {self.step.name!r:.100} cannot be read: {reason}")


Rule = Callable[[Op], Any]
RULES: dict[str, Rule] = {}
"""The rules by operator: each gets an `Op` and returns a value, or a tuple of them."""
SIZE_RULES: dict[str, Rule] = {}
"""Rules for operators all of whose inputs are `Host`: arithmetic with shapes. Each returns a `Host` or None."""


def onnx_rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register the rule of operators."""
    return _register(RULES, operators)


def size_rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register what operators do to shapes."""
    return _register(SIZE_RULES, operators)


def _register(table: dict[str, Rule], operators: Sequence[str]) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        table.update(dict.fromkeys(operators, rule))
        return rule

    return register
