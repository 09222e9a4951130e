"""Shards: what transformers writes, byte for byte, and never more than one tensor of it in memory."""

import weakref
from functools import partial

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM, core_model_loading

from sparsify.coding.tensor_file import Part, TensorFile
from sparsify.export.shards import write_shards

SMALL = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 32, "dtype": torch.bfloat16}  # fmt: skip
LARGEST = 20_000


def models(kind, config):
    """A model, and the same without memory."""
    torch.manual_seed(0)
    model = kind(config).bfloat16()
    with torch.device("meta"):
        empty = kind(config).bfloat16()
    empty.tie_weights()
    return model, empty


def llama(tied=True):
    return models(LlamaForCausalLM, LlamaConfig(**SMALL, tie_word_embeddings=tied))


def parts_of(model, make=lambda value: value):
    return {
        name: Part(name, value.dtype, tuple(value.shape), partial(make, value))
        for name, value in model.state_dict().items()
    }


def mixtral():
    return models(MixtralForCausalLM, MixtralConfig(**SMALL, num_local_experts=4))


@pytest.mark.parametrize(("made", "largest"), [
    (llama, LARGEST), (partial(llama, tied=False), LARGEST), (llama, 10**9), (mixtral, 10**9)
], ids=["tied", "untied", "one file", "experts"])  # fmt: skip
def test_the_files_are_those_of_transformers(tmp_path, made, largest):
    model, empty = made()
    model.save_pretrained(tmp_path / "theirs", max_shard_size=largest)
    (tmp_path / "own").mkdir()
    write_shards(empty, parts_of(model), tmp_path / "own", largest)
    expected = {path.name for path in (tmp_path / "theirs").iterdir() if path.name.startswith("model")}
    assert {path.name for path in (tmp_path / "own").iterdir()} == expected
    assert ("model.safetensors.index.json" in expected) == (largest == LARGEST)
    for name in expected:
        assert (tmp_path / "own" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()


def test_tensors_are_made_one_after_the_other(tmp_path):
    model, empty = llama(tied=False)
    alive = weakref.WeakSet()
    most = 0

    def make(value):
        nonlocal most
        made = value.clone()
        alive.add(made)
        most = max(most, len(alive))
        return made

    write_shards(empty, parts_of(model, make), tmp_path)
    assert most <= 2  # the last one is kept until the next is there


def test_what_needs_others_of_its_layer_is_made_of_them_once(tmp_path, monkeypatch):
    model, empty = llama(tied=False)
    calls = []

    def fused(_, state):
        found = {}
        for name, value in state.items():
            if "q_proj" in name:
                found[name.replace("q_", "qk_")] = torch.cat([value, state[name.replace("q_proj", "k_proj")]])
            elif "k_proj" not in name:
                found[name] = value
        return found

    monkeypatch.setattr(core_model_loading, "revert_weight_conversion", fused)
    write_shards(empty, parts_of(model, lambda value: calls.append(value) or value), tmp_path)
    found, state = TensorFile(tmp_path / "model.safetensors"), model.state_dict()
    for layer in range(3):
        where = f"model.layers.{layer}.self_attn."
        both = torch.cat([state[f"{where}q_proj.weight"], state[f"{where}k_proj.weight"]])
        assert torch.equal(found[f"{where}qk_proj.weight"], both)
    assert len(calls) == len(state)
