"""Torch-Pruning 1.6.1 as its own examples set it up, and the models that both sides get. Does nothing on its own.

It is a benchmark-only extra: `pip install --no-deps torch-pruning==1.6.1`, or the extra `bench` of this package.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch_pruning
from densenet import densenet121
from torch import Tensor, nn

VERSION = "1.6.1"
TOKENS = 128

# It keeps what it is told in default arguments, so that one model would change the next: always give all of them.
_FRESH = ("in_channel_groups", "out_channel_groups", "channel_groups", "num_heads")
_PROJECTIONS = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"), ("q_lin", "k_lin", "v_lin"), ("q", "k", "v"))
_HEAD_WIDTHS = ("attention_head_size", "head_dim", "key_value_proj_dim")


@dataclass(frozen=True)
class Model:
    """A model and what Torch-Pruning has to be told about it.

    Attributes:
        make: returns it in evaluation mode, with its example of batch size 1 as keyword inputs.
        ignored: the layers that must keep their outputs: those that make the model's output.
    """

    make: Callable[[], tuple[nn.Module, dict[str, Tensor]]]
    ignored: Callable[[nn.Module], list[nn.Module]]


def dependencies(model: nn.Module, example: Any) -> Any:
    """Return its graph of the dependencies between layers, for positional inputs or a dictionary of inputs by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch_pruning.DependencyGraph().build_dependency(model, example, output_transform=tensors)


def pruner(model: nn.Module, example: Any, ratio: float, **settings: Any) -> Any:
    """Return its pruner by magnitude, the same fraction of every group; it prunes the model that it is given.

    Args:
        model: is changed.
        example: its inputs, positional or a dictionary by name.
        ratio: the fraction of the channels that goes.
        settings: more options of its `BasePruner`, which it also calls MetaPruner and MagnitudePruner.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch_pruning.pruner.BasePruner(
            model,
            example,
            importance=torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=ratio,
            output_transform=tensors,
            **{name: {} for name in _FRESH} | settings,
        )


def pruner_of(case: Model, model: nn.Module, example: Any, ratio: float, heads: float, **settings: Any) -> Any:
    """Return its pruner for one of the models below; `heads` is the fraction of the heads that goes."""
    return pruner(model, example, ratio, ignored_layers=case.ignored(model), **whole_heads(model, heads), **settings)


def pruned(case: Model, model: nn.Module, example: Any, ratio: float, heads: float, **settings: Any) -> nn.Module:
    """Return a pruned copy of one of the models below."""
    model = copy.deepcopy(model)
    pruner_of(case, model, example, ratio, heads, **settings).step()
    write_heads(model)
    return model


def tensors(output: Any) -> list[Tensor]:
    """Return the outputs that depend on parameters; it cannot trace others, nor classes that hold outputs."""
    from torch.utils import _pytree as pytree

    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor) and leaf.grad_fn is not None]


def image_model(make: Callable[[], nn.Module], key: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return a model of photographs with a random one."""
    torch.manual_seed(0)
    return make().eval(), {key: torch.randn(1, 3, 224, 224)}


def _resnet50() -> nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig())


def _bert6() -> tuple[nn.Module, dict[str, Tensor]]:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(num_hidden_layers=6)).eval()
    return model, {"input_ids": torch.randint(0, 30000, (1, TOKENS))}


def attentions(model: nn.Module) -> Iterator[tuple[Any, list[Any], int]]:
    """Yield transformers' attention layers with their query, key and value projections and the width of a head."""
    for layer in model.modules():
        width = next((found for name in _HEAD_WIDTHS if isinstance(found := getattr(layer, name, None), int)), 0)
        for names in _PROJECTIONS:
            found = [getattr(layer, name, None) for name in names]
            if width and all(isinstance(projection, nn.Linear) for projection in found):
                yield layer, found, width


def whole_heads(model: nn.Module, ratio: float) -> dict[str, Any]:
    """Return the settings with which attention layers lose whole heads, or none if there are no such layers."""
    heads = {
        projection: projection.out_features // width
        for _, projections, width in attentions(model)
        for projection in projections
    }
    if not heads:
        return {}
    return {"num_heads": heads, "prune_num_heads": True, "prune_head_dims": False, "head_pruning_ratio": ratio}


def write_heads(model: nn.Module) -> None:
    """Write the new number of heads into attention layers."""
    for layer, (query, key, _), width in attentions(model):
        sizes = {
            **dict.fromkeys(("num_attention_heads", "num_heads", "n_heads"), query.out_features // width),
            **dict.fromkeys(("all_head_size", "inner_dim"), query.out_features),
            "num_key_value_groups": query.out_features // key.out_features,
        }
        for name, size in sizes.items():
            if hasattr(layer, name):
                setattr(layer, name, size)


MODELS: dict[str, Model] = {
    "ResNet-50": Model(partial(image_model, _resnet50, "pixel_values"), lambda model: [model.classifier]),
    "BERT, 6 layers": Model(_bert6, lambda model: [model.classifier]),
    "DenseNet-121": Model(partial(image_model, densenet121, "input"), lambda model: [model.classifier]),
}


class PatchMerging(torch_pruning.BasePruningFunc):
    """What its example registers for Swin, which joins four neighbours: a channel in front is four behind."""

    def prune_out_channels(self, layer: Any, idxs: list[int]) -> Any:
        """Remove what it makes."""
        torch_pruning.prune_linear_out_channels(layer.reduction, idxs)
        return layer

    def prune_in_channels(self, layer: Any, idxs: list[int]) -> Any:
        """Remove what it reads."""
        width = self.get_in_channels(layer)
        four = [index + part * width for part in range(4) for index in idxs]
        torch_pruning.prune_linear_in_channels(layer.reduction, four)
        torch_pruning.prune_layernorm_out_channels(layer.norm, four)
        return layer

    def get_out_channels(self, layer: Any) -> int:
        """Return the number of channels behind it."""
        return layer.reduction.out_features

    def get_in_channels(self, layer: Any) -> int:
        """Return the number of channels in front of it."""
        return layer.reduction.in_features // 4


def examples_settings(model: nn.Module) -> dict[str, Any]:
    """Return what its examples set for models with attention: whole heads, and Swin's patch merging."""
    settings = whole_heads(model, 0.5)
    merging = {type(module) for module in model.modules() if type(module).__name__ == "SwinPatchMerging"}
    if merging:
        settings["customized_pruners"] = {kind: PatchMerging() for kind in merging}
        settings["root_module_types"] = (nn.Linear, nn.LayerNorm, *merging)
    return settings
