"""What the attributes of torch's own modules become: they follow from the shapes of the parameters."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

__all__ = ["exact_attributes"]

Outer = Callable[[str, int, int], int]
"""Takes the name of a parameter in the module, a dimension, and an old size: that of the dimension's slowest factors.
Returns their new size."""

_WEIGHTS = (  # where a weight is when something computes it
    "weight",
    "parametrizations.weight.original",
    "parametrizations.weight.original1",
    "weight_orig",
    "weight_v",
)


def exact_attributes(module: nn.Module, outer: Outer) -> dict[str, Any]:
    """Return the attributes of a module that its parameters, which have their new shapes already, determine.

    Args:
        module: any; modules that are not torch's (or transformers' Conv1D) have no such attributes.
        outer: knows the new number of groups and heads.
    """
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    name = next((name for name in _WEIGHTS if name in state), "running_mean")
    shape = tuple(state[name].shape) if name in state else ()
    found: Mapping[str, Any] = {}
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        found = _recurrent(module, state)
    elif isinstance(module, nn.MultiheadAttention):
        found = _attention(module, outer)
    elif not shape:
        return {}
    elif isinstance(module, _ConvNd):
        groups = outer(name, 0, module.groups)
        first, second = ("in", "out") if isinstance(module, _ConvTransposeNd) else ("out", "in")
        found = {f"{first}_channels": shape[0], f"{second}_channels": shape[1] * groups, "groups": groups}
    elif isinstance(module, nn.GroupNorm):
        found = {"num_channels": shape[0], "num_groups": outer(name, 0, module.num_groups)}
    elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        found = {"normalized_shape": shape}
    else:
        names = next((names for kind, names in _BY_DIMENSION if isinstance(module, kind)), ())
        if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):
            names = ("nx", "nf")
        found = dict(zip(names, shape, strict=False))
    return {key: value for key, value in found.items() if key in vars(module)}


_BY_DIMENSION: tuple[tuple[type[nn.Module], tuple[str, ...]], ...] = (
    (nn.Linear, ("out_features", "in_features")),
    (nn.Bilinear, ("out_features", "in1_features", "in2_features")),
    (nn.Embedding, ("num_embeddings", "embedding_dim")),
    (nn.EmbeddingBag, ("num_embeddings", "embedding_dim")),
    (_NormBase, ("num_features",)),
    (nn.PReLU, ("num_parameters",)),
)


def _recurrent(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Any]:
    suffix = "_l0" if isinstance(module, nn.RNNBase) else ""
    into, again = state[f"weight_ih{suffix}"], state[f"weight_hh{suffix}"]
    gates = {"LSTM": 4, "LSTMCell": 4, "GRU": 3, "GRUCell": 3}.get(_torch_name(module), 1)
    found: dict[str, Any] = {"input_size": into.shape[1], "hidden_size": into.shape[0] // gates}
    if isinstance(module, nn.RNNBase):
        found["proj_size"] = again.shape[1] if module.proj_size else 0
        flat = [state.get(name) for name in module._flat_weights_names]
        found["_flat_weights"] = flat
        found["_flat_weight_refs"] = [None if weight is None else weakref.ref(weight) for weight in flat]
    return found


def _torch_name(module: nn.Module) -> str:
    return next(kind.__name__ for kind in type(module).__mro__ if kind.__module__.startswith("torch.nn"))


def _attention(module: nn.MultiheadAttention, outer: Outer) -> dict[str, Any]:
    out, packed = module.out_proj.weight, module.in_proj_weight
    inner = out.shape[1]
    count = outer("out_proj.weight", 1, module.num_heads)
    keys, values = (packed, packed) if isinstance(packed, Tensor) else (module.k_proj_weight, module.v_proj_weight)
    assert isinstance(keys, torch.Tensor)
    assert isinstance(values, torch.Tensor)
    return {
        "embed_dim": out.shape[0],
        "num_heads": count,
        "head_dim": inner // count,
        "kdim": keys.shape[1],
        "vdim": values.shape[1],
    }
