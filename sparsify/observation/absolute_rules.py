"""Positive forms of operators: what each becomes where every value is an absolute one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["POSITIVE", "Call"]

Rule = Callable[["Call"], Any]


@dataclass(frozen=True)
class Call:
    """An operator with what it gets.

    Attributes:
        values: its arguments by the names of its schema; those that flow are non-negative.
        flowing: names of the arguments that depend on weights or on inputs that are no indices: they have a gradient.
        state: names of the arguments that no input changes, such as weights.
        run: runs the operator itself on such arguments.
        same: whether its first two arguments are one value.
    """

    values: Mapping[str, Any]
    flowing: frozenset[str]
    state: frozenset[str]
    run: Callable[[Mapping[str, Any]], Any]
    same: bool = False

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name)

    @property
    def first(self) -> Any:
        """The argument that comes first."""
        return next(iter(self.values.values()))

    @property
    def flow(self) -> Tensor:
        """The first argument that flows."""
        found: Tensor = next(value for name, value in self.values.items() if name in self.flowing)
        return found


def _quotient(value: Tensor, divisor: Tensor) -> Tensor:
    """Divide by something that is held constant; zero counts as one."""
    divisor = divisor.detach().abs()
    return value / torch.where(divisor > 0, divisor, 1.0)


def _identity(call: Call) -> Tensor:
    return call.flow


def _at_slope(call: Call) -> Tensor:
    """Y = x · (f(x) / x) with the quotient held constant: the value is f's, the slope is that of a straight line."""
    x = call.flow
    return x * _quotient(call.run({**call.values, "self": x.detach()}), x)


def _power(call: Call) -> Tensor:
    exponent = call["exponent"]
    if "exponent" in call.flowing or not isinstance(exponent, (int, float)):
        return call.flow
    return _at_slope(call) if exponent > 0 else _inverse(call)


def _inverse(call: Call) -> Tensor:
    """A normaliser: its value counts, and is held constant."""
    x = call.flow.detach()
    found: Tensor = call.run({**call.values, "self": torch.where(x > 0, x, 1.0)})
    return found


def _shift(call: Call, name: str, beside: str) -> bool:
    """Whether an addend is a constant, or a bias: a vector of the state beside a value that is none."""
    if name not in call.flowing or beside not in call.flowing or {name, beside} <= call.state:
        return name not in call.flowing
    return name in call.state and call[name].numel() == max(call[name].shape, default=1)


def _sum(call: Call) -> Tensor:
    """A sum without its constants and biases; what is subtracted counts like what is added."""
    one, other, alpha = call["self"], call["other"], call["alpha"]
    shapes = [value.shape for value in (one, other) if isinstance(value, Tensor)]
    shape = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    if _shift(call, "other", "self"):
        return one.expand(shape)  # type: ignore[no-any-return]
    if alpha is not None:
        other = other * abs(alpha)
    return other.expand(shape) if _shift(call, "self", "other") else one + other  # type: ignore[no-any-return]


def _difference(call: Call) -> Tensor:
    """A sum, but without what is a mean or a maximum of the first operand, as its smaller shape shows."""
    one: Tensor = call["self"]
    if {"self", "other"} <= call.flowing and call["other"].numel() < one.numel():
        return one
    return _sum(call)


def _product(call: Call) -> Tensor:
    """A product; one of two values of the graph is scaled to the larger mean of the two by a factor held constant.

    Else magnitudes would be squared at every gate, and leave the range of numbers after a few layers.
    """
    one, other, *_ = call.values
    result: Tensor = call.run({name: abs(v) if isinstance(v, (int, float)) else v for name, v in call.values.items()})
    if call.same or not {one, other} <= call.flowing or {one, other} & call.state:
        return result
    larger = torch.maximum(call.values[one].detach().mean(), call.values[other].detach().mean())
    return _quotient(result, result.detach().mean()) * larger


def _ratio(call: Call) -> Tensor:
    one, other = call["self"], call["other"]
    if not isinstance(other, Tensor):
        return one / abs(other)  # type: ignore[no-any-return]
    return _quotient(one, other)


def _affine_product(call: Call) -> Tensor:
    """`b + x @ W` without the bias."""
    first, one, other, *_ = call.values
    product = torch.matmul(call.values[one], call.values[other])
    return product if _shift(call, first, one) else product + call.values[first]


def _chosen(call: Call) -> Tensor:
    """One of two values, or zero for a constant."""
    one, other = (call[name] if name in call.flowing else 0.0 for name in ("self", "other"))
    return torch.where(call["condition"], one, other)


def _filled(call: Call) -> Tensor:
    return torch.where(call["mask"], 0.0, call["self"])


def _shares(call: Call) -> Tensor:
    """Softmax: the shares of the values themselves in their sum, which is held constant; equal shares of nothing."""
    return _share(call.first, call["dim"])


def _share(value: Tensor, dim: int) -> Tensor:
    total = value.detach().sum(dim, keepdim=True)
    return torch.where(total > 0, _quotient(value, total), 1 / value.shape[dim])


def _attention(call: Call) -> Tensor:
    """Attention of everything to everything, whatever the mask says."""
    query, key, value = call["query"], call["key"], call["value"]
    if query.ndim > 2 and query.shape[-3] != key.shape[-3]:
        key, value = (part.repeat_interleave(query.shape[-3] // part.shape[-3], -3) for part in (key, value))
    return torch.matmul(_share(query @ key.transpose(-1, -2), -1), value)


def _normalised(x: Tensor, dims: Sequence[int]) -> Tensor:
    return _quotient(x, x.detach().square().mean(list(dims), keepdim=True).sqrt())


def _scaled(x: Tensor, weight: Tensor | None, dim: int | None = None) -> Tensor:
    if weight is None:
        return x
    return x * (weight if dim is None else weight.view([-1 if i == dim else 1 for i in range(x.ndim)]))


def _batch_norm(call: Call) -> Tensor:
    """By running statistics if there are some, without the mean; else by what it sees, as the other norms."""
    x, variance = call.first, call["running_var"]
    if variance is None or call["use_input_stats"]:
        instance = "use_input_stats" in call.values
        scaled = _normalised(x, [dim for dim in range(x.ndim) if dim != 1 and not (instance and dim == 0)])
    else:
        scaled = _scaled(x, (variance + call["eps"]).rsqrt(), 1)
    return _scaled(scaled, call["weight"], 1)


def _layer_norm(call: Call) -> Tensor:
    return _scaled(_normalised(call.first, range(-len(call["normalized_shape"]), 0)), call["weight"])


def _group_norm(call: Call) -> Tensor:
    x = call.first
    grouped = x.unflatten(1, (call["num_groups"], -1))
    return _scaled(_normalised(grouped, range(2, grouped.ndim)).flatten(1, 2), call["weight"], 1)


def _over(call: Call) -> dict[str, Any]:
    dims = call["dim"]
    return {"dim": list(range(call.flow.ndim)) if dims is None else dims, "keepdim": bool(call["keepdim"])}


def _variance(call: Call) -> Tensor:
    """The mean square, since a mean that is subtracted is left out."""
    return (call.flow * call.flow.detach()).mean(**_over(call))


def _deviation(call: Call) -> Tensor:
    square = _variance(call)
    return _quotient(square, square.sqrt())


def _variance_and_mean(call: Call) -> tuple[Tensor, Tensor]:
    return _variance(call), call.flow.mean(**_over(call))


def _gated_half(call: Call) -> Tensor:
    one, other = call.first.chunk(2, call["dim"])
    values = {"self": one, "other": other}
    pair = Call(values, frozenset(values), frozenset(), lambda both: both["self"] * both["other"])
    return _product(pair)


def _weight_norm(call: Call) -> Tensor:
    value: Tensor = call["v"]
    return _quotient(value * call["g"], torch.norm_except_dim(value.detach(), 2, call["dim"]))


def _recurrent(call: Call) -> tuple[Tensor, ...]:
    """Two steps of the recurrence, from the input and from the state that it leaves, with the mean of all gates."""
    x, states = call.first, call["hx"]
    cells = isinstance(states, (list, tuple))
    directions = 2 if call["bidirectional"] else 1
    per = len(call["params"]) // (directions * call["num_layers"])
    time = 1 if call["batch_first"] and x.ndim == 3 else 0
    hidden, cell = [], []
    for layer in range(call["num_layers"]):
        outs = []
        for direction in range(directions):
            first, again, *rest = call["params"][(layer * directions + direction) * per :][:per]
            project = rest[-1:] if per in (3, 5) else []
            size = project[0].shape[1] if project else again.shape[1]
            inner = _mean_gate(F.linear(x, first), size)
            out = F.linear(inner, project[0]) if project else inner
            inner = inner + _mean_gate(F.linear(out, again), size)
            outs.append(F.linear(inner, project[0]) if project else inner)
            hidden.append(outs[-1].mean(time))
            cell.append(inner.mean(time))
        x = torch.cat(outs, -1)
    return (x, torch.stack(hidden), torch.stack(cell)) if cells else (x, torch.stack(hidden))


def _mean_gate(x: Tensor, size: int) -> Tensor:
    return x.reshape(*x.shape[:-1], -1, size).mean(-2)


def _named(rule: Rule, *names: str) -> dict[str, Rule]:
    return {f"aten::{name}": rule for name in names}


POSITIVE: Mapping[str, Rule] = {
    **_named(_identity, "detach", "dropout", "feature_dropout", "alpha_dropout", "hardswish", "log_sigmoid", "prelu"),
    **_named(_at_slope, "sqrt", "square"),
    **_named(_power, "pow"),
    **_named(_inverse, "rsqrt", "reciprocal"),
    **_named(_sum, "add", "rsub"),
    **_named(_difference, "sub"),
    **_named(_product, "mul", "matmul", "bmm", "mm"),
    **_named(_ratio, "div", "true_divide"),
    **_named(_affine_product, "addmm", "baddbmm", "addmv"),
    **_named(_chosen, "where"),
    **_named(_filled, "masked_fill"),
    **_named(_shares, "softmax", "log_softmax", "_softmax", "_log_softmax", "_safe_softmax"),
    **_named(_attention, "scaled_dot_product_attention"),
    **_named(_batch_norm, "batch_norm", "instance_norm"),
    **_named(_layer_norm, "layer_norm", "rms_norm"),
    **_named(_group_norm, "group_norm"),
    **_named(_variance, "var"),
    **_named(_deviation, "std"),
    **_named(_variance_and_mean, "var_mean"),
    **_named(_gated_half, "glu"),
    **_named(_weight_norm, "_weight_norm"),
    **_named(_recurrent, "lstm", "gru", "rnn_tanh", "rnn_relu"),
}
"""Operators that the general rules do not fit, with what stands in for them."""
