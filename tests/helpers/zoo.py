"""Small networks with random weights: families of transformers, and networks written by hand.

Every entry is a function that returns a model in evaluation mode, its positional and its keyword inputs for a batch of
two. Sizes differ from one another wherever a network allows it, and nothing is zero or one by initialisation, so that a
confusion of two axes or of two channels changes the output.
"""

import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from helpers import networks_conv, networks_odd, networks_sequence, networks_weights
from torch import nn

Entry = Callable[[], tuple[nn.Module, tuple[Any, ...], dict[str, Any]]]

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
GAIN = 1.5  # of convolutions: activations and means over pixels shrink what they make
TIMID = 0.06  # weights of transformers start with a deviation of 0.02, which hides what their inputs do
TEXT = {"vocab_size": 59, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80}


def randomize(model: nn.Module, seed: int) -> nn.Module:
    """Give norms, biases, statistics and everything constant random values, and large values to small weights."""
    with torch.random.fork_rng([]), torch.no_grad():
        torch.manual_seed(seed)
        for module in model.modules():
            for name, value in module.named_parameters(recurse=False):
                _fill(module, name, value)
            for name, value in module.named_buffers(recurse=False):
                if name == "running_mean":
                    value.normal_(0, 0.3)
                elif name == "running_var":
                    value.uniform_(0.5, 1.5)
    return model


def _fill(module: nn.Module, name: str, value: torch.Tensor) -> None:
    if isinstance(module, LAYERS) and value.ndim > 1:
        value.normal_(0, (1 if isinstance(module, nn.Linear) else GAIN) * value[0].numel() ** -0.5)
    elif value.ndim == 1 and "bias" not in name and "shift" not in name:
        value.uniform_(0.5, 1.5)
    elif value.ndim == 1 or value.numel() == 1 or value.std() == 0:
        value.normal_(0, 0.3)
    elif value.std() < TIMID:
        value.mul_(0.15 / value.std())
    value.copy_(torch.where(value == 0, torch.randn_like(value) * 0.3, value))  # such as the row of a padding token


def _pixels(size: int = 32) -> dict[str, Any]:
    return {"pixel_values": torch.randn(2, 3, size, size) + torch.randn(2, 3, 1, 1)}


def _ids(length: int = 11) -> dict[str, Any]:
    return {"input_ids": torch.randint(1, 59, (2, length))}


def _family(name: str, config: dict[str, Any], inputs: Callable[[], dict[str, Any]]) -> Entry:
    """Return the entry for `name`, whose configuration is called like it: ResNetForImageClassification."""

    def make() -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
        import transformers

        prefix = name.partition("For")[0].removesuffix("LMHeadModel")
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            settings = getattr(transformers, f"{prefix}Config")(**config)
            model = getattr(transformers, name)(settings)
            return randomize(model, 1).eval(), (), inputs()

    return make


def _speech() -> dict[str, Any]:
    return {"input_features": torch.randn(2, 18, 22), "decoder_input_ids": torch.randint(1, 59, (2, 7))}


def _pair_of_texts() -> dict[str, Any]:
    return {**_ids(), "decoder_input_ids": torch.randint(1, 59, (2, 7))}


_RESNET = {"embedding_size": 10, "depths": [2, 2, 2], "num_labels": 5}

FAMILIES: dict[str, Entry] = {
    "resnet": _family("ResNetForImageClassification", {
        **_RESNET, "hidden_sizes": [16, 24, 40], "layer_type": "bottleneck"}, _pixels),
    "resnet-basic": _family("ResNetForImageClassification", {
        **_RESNET, "hidden_sizes": [12, 14, 22], "layer_type": "basic"}, _pixels),
    "regnet": _family("RegNetForImageClassification", {
        "embedding_size": 10, "hidden_sizes": [16, 24], "depths": [2, 2], "groups_width": 4, "layer_type": "y",
        "num_labels": 5}, _pixels),
    "mobilenetv2": _family("MobileNetV2ForImageClassification", {
        "depth_multiplier": 0.1, "min_depth": 4, "depth_divisible_by": 4, "finegrained_output": False,
        "num_labels": 5}, _pixels),
    "efficientnet": _family("EfficientNetForImageClassification", {
        "image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 1.0, "depth_divisor": 4,
        "in_channels": [32, 48, 80], "out_channels": [48, 80, 112], "kernel_sizes": [3, 5, 3], "strides": [1, 2, 1],
        "num_block_repeats": [1, 2, 2], "expand_ratios": [1, 4, 4], "hidden_dim": 320, "num_labels": 5}, _pixels),
    "convnext": _family("ConvNextForImageClassification", {
        "hidden_sizes": [12, 20], "depths": [2, 2], "num_stages": 2, "drop_path_rate": 0.1, "num_labels": 5}, _pixels),
    "convnextv2": _family("ConvNextV2ForImageClassification", {
        "hidden_sizes": [12, 20], "depths": [2, 2], "num_stages": 2, "drop_path_rate": 0.1, "num_labels": 5}, _pixels),
    "vit": _family("ViTForImageClassification", {
        "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80, "image_size": 32,
        "patch_size": 8, "num_labels": 5}, _pixels),
    "swin": _family("SwinForImageClassification", {
        "image_size": 24, "patch_size": 2, "embed_dim": 20, "depths": [2, 2], "num_heads": [2, 5], "window_size": 4,
        "mlp_ratio": 3.0, "num_labels": 7}, lambda: _pixels(24)),
    "segformer": _family("SegformerForSemanticSegmentation", {
        "num_encoder_blocks": 2, "depths": [2, 2], "sr_ratios": [4, 1], "hidden_sizes": [12, 20],
        "patch_sizes": [7, 3], "strides": [4, 2], "num_attention_heads": [1, 2], "mlp_ratios": [3, 2],
        "decoder_hidden_size": 28, "num_labels": 5}, _pixels),
    "bert": _family("BertForSequenceClassification", {**TEXT, "max_position_embeddings": 64, "num_labels": 5}, _ids),
    "distilbert": _family("DistilBertForSequenceClassification", {
        "vocab_size": 59, "dim": 48, "n_layers": 2, "n_heads": 4, "hidden_dim": 80, "max_position_embeddings": 64,
        "num_labels": 5}, _ids),
    "gpt2": _family("GPT2LMHeadModel", {
        "vocab_size": 59, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_inner": 80, "n_positions": 64,
        "use_cache": False, "bos_token_id": 0, "eos_token_id": 1}, _ids),
    "llama": _family("LlamaForCausalLM", {
        **TEXT, "num_key_value_heads": 2, "head_dim": 10, "max_position_embeddings": 64, "use_cache": False}, _ids),
    "qwen3": _family("Qwen3ForCausalLM", {
        **TEXT, "num_key_value_heads": 2, "head_dim": 10, "max_position_embeddings": 64, "use_cache": False}, _ids),
    "mixtral": _family("MixtralForCausalLM", {
        **TEXT, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 10, "num_local_experts": 4,
        "num_experts_per_tok": 2, "max_position_embeddings": 64, "use_cache": False}, _ids),
    "t5": _family("T5ForConditionalGeneration", {
        "vocab_size": 59, "d_model": 48, "d_kv": 10, "d_ff": 80, "num_layers": 2, "num_heads": 4,
        "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16, "use_cache": False},
        _pair_of_texts),
    "whisper": _family("WhisperForConditionalGeneration", {
        "vocab_size": 59, "num_mel_bins": 18, "d_model": 48, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 3, "encoder_ffn_dim": 80, "decoder_ffn_dim": 72,
        "max_source_positions": 11, "max_target_positions": 20, "use_cache": False, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "begin_suppress_tokens": None}, _speech),
    "mamba": _family("MambaForCausalLM", {
        "vocab_size": 59, "hidden_size": 48, "state_size": 6, "num_hidden_layers": 2, "time_step_rank": 5,
        "use_cache": False}, lambda: _ids(3)),
}  # fmt: skip


def _network(kind: type[nn.Module]) -> Entry:
    """Return the entry for a class that lists the shapes of its inputs, and the size of the vocabulary if they are."""

    def make() -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            model = randomize(kind(), 1).eval()
            tokens = getattr(kind, "tokens", None)
            shapes = [(2, *shape) for shape in kind.inputs]
            if tokens is not None:
                return model, tuple(torch.randint(1, tokens, shape) for shape in shapes), {}
            return model, tuple(torch.randn(shape) + torch.randn(2, *[1] * (len(shape) - 1)) for shape in shapes), {}

    return make


def _networks(module: ModuleType) -> dict[str, Entry]:
    """Return the classes of a module that list inputs: `SpatialAttention` is called spatial-attention."""
    return {
        re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower(): _network(kind)
        for name, kind in vars(module).items()
        if isinstance(kind, type) and kind.__module__ == module.__name__ and hasattr(kind, "inputs")
    }


NETWORKS: dict[str, Entry] = {
    **_networks(networks_conv),
    **_networks(networks_sequence),
    **_networks(networks_odd),
    **_networks(networks_weights),
}

# A plain run takes these; cases that name another entry are slow (`tests/conftest.py`), whatever they test.
CORE = {
    *("resnet-basic", "bert", "llama"),  # residual convolutions, classic attention, rotary attention of grouped heads
    *("dense-net", "grouped-after-cat", "group-norm-net", "squeeze-excite", "flatten-conv"),
    *("self-attention", "multi-query", "lstm-classifier", "tied-language-model", "dense-experts"),
    *("channel-order", "split-cat", "two-inputs", "in-place", "mystery", "weight-norm-conv", "prelu", "tile"),
}
