"""Hugging Face folders: what transformers loads of them computes what the program does, or nothing is written."""

import json
from functools import partial

import pytest
import torch
from helpers.command import sparsify
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)  # fmt: skip

import sparsify as sp
from sparsify.errors import ExportError, InputError
from sparsify.export import hugging_face
from sparsify.export.hugging_face import check_expressible
from sparsify.export.plain_state import plain_state
from sparsify.loading.hugging_face import example_inputs
from sparsify.verify import outputs

SMALL = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 32, "use_cache": False}  # fmt: skip


def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=True)).eval()


def mixtral():
    torch.manual_seed(0)
    return MixtralForCausalLM(MixtralConfig(**SMALL, num_local_experts=4)).eval()


def qwen():
    torch.manual_seed(0)
    more = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    return Qwen2MoeForCausalLM(Qwen2MoeConfig(**SMALL, **more, shared_expert_intermediate_size=24)).eval()


def bert():
    torch.manual_seed(0)
    return BertModel(BertConfig(**{key: value for key, value in SMALL.items() if "key" not in key})).eval()


def pruned(model, *specs):
    ids = torch.randint(50, (2, 9), generator=torch.Generator().manual_seed(1))
    return sp.run(sp.capture(model, (), {"input_ids": ids}), specs).program


@pytest.mark.parametrize(("make", "specs", "config"), [
    (llama, ["layer-prune:count=1", "weight-prune:sparsity=0.5"], {"num_hidden_layers": [3, 2]}),
    (llama, ["channel-prune:sparsity=0.5,units=heads+channels,scope=uniform", "shrink"],
     {"intermediate_size": [48, 24], "num_attention_heads": [4, 2]}),
    pytest.param(llama, ["channel-prune:sparsity=0.5,units=kv-groups,scope=uniform", "shrink"],
                 {"num_attention_heads": [4, 2], "num_key_value_heads": [2, 1]}, marks=pytest.mark.slow),
    pytest.param(mixtral, ["channel-prune:sparsity=0.5,units=heads,scope=uniform", "shrink"],
                 {"num_attention_heads": [4, 2], "head_dim": [None, 8]}, marks=pytest.mark.slow),
])  # fmt: skip
def test_what_the_configuration_can_express(tmp_path, make, specs, config):
    model = make()
    program = pruned(model, *[spec.replace("+", ",") for spec in specs])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    told = sp.save_hugging_face(program, model, tmp_path / "small")
    assert told["config"] == config
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "small").eval()
    with torch.no_grad():
        found = again(**program.example.kwargs).logits
    torch.testing.assert_close(found, outputs(program)[0])  # sums of other lengths may add up otherwise


@pytest.mark.parametrize(("make", "key", "expert"), [
    (mixtral, "num_local_experts", "block_sparse_moe.experts.{}.w1.weight"),
    pytest.param(qwen, "num_experts", "mlp.experts.{}.gate_proj.weight", marks=pytest.mark.slow),
])  # fmt: skip
def test_experts_are_written_as_published_files_have_them(tmp_path, make, key, expert):
    model = make()
    program = pruned(model, "channel-prune:sparsity=0.25,units=experts,scope=uniform", "shrink")
    assert sp.save_hugging_face(program, model, tmp_path / "small")["config"] == {key: [4, 3]}
    assert json.loads((tmp_path / "small" / "config.json").read_text())[key] == 3
    names = load_file(tmp_path / "small" / "model.safetensors")
    for layer in range(3):
        there = [f"model.layers.{layer}.{expert.format(number)}" in names for number in range(4)]
        assert there == [True, True, True, False]


@pytest.mark.parametrize(("make", "specs", "error"), [
    (llama, ["channel-prune:sparsity=0.5,units=channels,scope=global", "shrink"], "in different layers"),
    (llama, ["layer-prune:count=1,granularity=sublayer"], "cannot express model.layers.*: a pass took a part of"),
    (bert, ["channel-prune:sparsity=0.5,units=heads,scope=uniform", "shrink"], "No number of the configuration gives"),
    pytest.param(llama, ["channel-prune:sparsity=0.25,units=head-dim,scope=uniform", "shrink"],
                 "something else than the program", marks=pytest.mark.slow),
])  # fmt: skip
def test_what_it_cannot_is_refused_and_nothing_is_written(tmp_path, make, specs, error):
    model = make()
    program = pruned(model, *specs)
    with pytest.raises(ExportError, match=error):
        sp.save_hugging_face(program, model, tmp_path / "small")
    assert list(tmp_path.iterdir()) == []


def test_most_of_it_is_known_without_writing():
    model = bert()
    with pytest.raises(ExportError, match="No number of the configuration gives"):
        check_expressible(pruned(model, "channel-prune:sparsity=0.5,units=heads,scope=uniform", "shrink"), model)
    check_expressible(pruned(model, "layer-prune:count=1"), model)


def test_the_command_refuses_it_before_it_trains(tmp_path):
    source = tmp_path / "llama"
    llama().save_pretrained(source)
    (tmp_path / "text.txt").write_text("1 0-1,0. " * 200)  # bytes that its vocabulary holds
    words = ["--task", f"text:{tmp_path / 'text.txt'},length=8,inputs=input_ids", "--retrain", "fine-tune:steps=1000ep"]
    ran = sparsify(source, "--pass", "layer-prune:count=1,granularity=sublayer", *words, "-o", tmp_path / "small")
    assert ran.status == 3
    assert "cannot express" in ran.err
    assert not (tmp_path / "small").exists()


def test_other_models_and_folders_with_something_in_them(tmp_path):
    model = torch.nn.Linear(4, 4)
    with pytest.raises(InputError, match="takes a model of transformers, not a Linear"):
        sp.save_hugging_face(sp.capture(model, (torch.ones(2, 4),)), model, tmp_path / "small")
    (tmp_path / "file").touch()
    model = bert()
    with pytest.raises(InputError, match="is there already; name a folder that is new or empty"):
        sp.save_hugging_face(pruned(model), model, tmp_path)


def test_the_command_takes_and_writes_folders(tmp_path):
    source, target = tmp_path / "llama", tmp_path / "llama-0.5-small"
    model = llama()
    model.config.use_cache = True
    model.save_pretrained(source)
    for name in ("tokenizer.json", "LICENSE", "modeling_own.py", "pytorch_model.bin", ".hidden"):
        (source / name).write_text("{}")
    ran = sparsify(source, "--pass", "layer-prune:count=1", "-o", f"{target}/")
    assert ran.status == 0, ran.err
    assert ran.err == ""
    assert f"wrote {target} (" in ran.out
    names = ["LICENSE", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]
    assert sorted(path.name for path in target.iterdir()) == names
    assert len({path.stat().st_mode for path in target.iterdir()} | {source.joinpath("LICENSE").stat().st_mode}) == 1
    config = json.loads((target / "config.json").read_text())
    assert (config["num_hidden_layers"], config["use_cache"]) == (2, True)
    program = sp.load(target)
    assert sp.load(source).parameters.keys() - program.parameters.keys() == {
        name for name in sp.load(source).parameters if name.startswith("model.layers.2.")
    }
    again = sparsify(source, "--pass", "layer-prune:count=1", "-o", target)
    assert (again.status, again.out) == (2, "")
    assert "is there already" in again.err
    other = sparsify(tmp_path / "m.pt2", "--pass", "shrink", "-o", tmp_path / "folder")
    assert other.status == 2


@pytest.fixture
def sharded(tmp_path):
    model = llama().bfloat16()
    model.save_pretrained(tmp_path / "llama", max_shard_size="20KB")
    return model, tmp_path / "llama"


def test_a_folder_of_several_files_becomes_what_the_model_in_memory_does(sharded, tmp_path, monkeypatch):
    model, source = sharded
    specs = ["layer-prune:count=1", "weight-prune:pattern=2:4"]
    ids = example_inputs(model)[1]
    expected = plain_state(sp.run(sp.capture(model, (), ids), specs).program)
    monkeypatch.setattr(hugging_face, "write_shards", partial(hugging_face.write_shards, largest=20_000))
    ran = sparsify(source, *[word for spec in specs for word in ("--pass", spec)], "-o", tmp_path / "small")
    assert ran.status == 0, ran.err
    files = sorted((tmp_path / "small").glob("*.safetensors"))
    assert [file.name for file in files] == [f"model-{number:05d}-of-00002.safetensors" for number in (1, 2)]
    found = {name: value for file in files for name, value in load_file(file).items()}
    index = json.loads((tmp_path / "small" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == found.keys()
    gone = next(i for i in range(3) if f"model.layers.{i}.mlp.up_proj.weight" not in expected)
    for name, value in found.items():
        place = int(name.split(".")[2]) if ".layers." in name else 0
        before = name.replace(f"layers.{place}.", f"layers.{place + (place >= gone)}.")
        assert torch.equal(value.view(torch.int16), expected[before].view(torch.int16))
        if "proj" in name:
            assert ((value.view(-1, 4) != 0).sum(1) == 2).all()
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "small", dtype="auto").dtype == torch.bfloat16


def test_of_a_folder_with_a_file_cut_off_nothing_is_made(sharded, tmp_path):
    _, source = sharded
    last = sorted(source.glob("*.safetensors"))[-1]
    last.write_bytes(last.read_bytes()[:-9])
    ran = sparsify(source, "--pass", "weight-prune:pattern=2:4", "-o", tmp_path / "small")
    assert (ran.status, ran.out) == (2, "")
    assert f"{source} cannot be loaded" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["llama"]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hugging_face, "write_shards", full)
    model = llama()
    program = sp.capture(model, (), example_inputs(model)[1])
    with pytest.raises(InputError, match=r"small cannot be written: No space left on device"):
        sp.save_hugging_face(program, model, tmp_path / "small", before=program)
    assert list(tmp_path.iterdir()) == []
