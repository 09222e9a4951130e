import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.command import sparsify
from transformers import BertConfig, BertModel

import sparsify as sp
from sparsify.errors import InputError, UsageError
from sparsify.loading import hugging_face
from sparsify.loading.hugging_face import example_inputs, is_model_folder, read_folder

MAPS = Path("/proc/self/maps")
SMALL = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
         "max_position_embeddings": 32}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("hf") / "bert"
    BertModel(BertConfig(**SMALL)).save_pretrained(path)
    return path


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def changed(path, **settings):
    known = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**known, **settings}))


def test_a_folder_is_captured_without_more(folder):
    program = sp.load(folder)
    assert program.example.synthetic
    model = BertModel.from_pretrained(folder).eval()
    inputs = dict(program.example.kwargs)
    assert inputs.keys() == {"input_ids"}
    with torch.no_grad():
        assert torch.equal(program.module()(**inputs)["last_hidden_state"], model(**inputs).last_hidden_state)
    given = sp.load(folder, inputs="input_ids:int64[3,7]%50")
    assert given.example.kwargs["input_ids"].shape == (3, 7)


def test_what_is_no_model_is_refused(copy, tmp_path):
    assert is_model_folder(copy)
    assert not is_model_folder(tmp_path)
    for settings, message in (
        ({"architectures": ["Mine"]}, "names Mine as its architecture"),
        ({"architectures": ["AutoModel"]}, "names AutoModel as its architecture"),
        ({"architectures": None}, "names no class as its architecture"),
        ({"architectures": ["BertModel"], "hidden_size": 32}, "lacks weights of BertModel, which .*|cannot be loaded"),
    ):
        changed(copy, **settings)
        with pytest.raises(InputError, match=message):
            read_folder(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json cannot be read"):
        read_folder(copy)


def test_weights_that_lack_are_not_drawn(copy):
    changed(copy, num_hidden_layers=2)
    with pytest.raises(InputError, match=r"lacks weights of BertModel, which would be random: encoder.layer.1"):
        read_folder(copy)


def test_damaged_weights_are_refused(copy):
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    ran = sparsify("inspect", copy)
    assert (ran.status, ran.out) == (2, "")
    assert "cannot be loaded" in ran.err
    file.unlink()
    with pytest.raises(InputError, match="cannot be loaded"):
        read_folder(copy)


@pytest.mark.skipif(not MAPS.exists(), reason="only Linux tells what a process maps")
def test_weights_stay_in_the_files_that_they_came_from(copy):
    read_folder(copy).save_pretrained(copy, max_shard_size="10KB")
    (copy / "model.safetensors").unlink()
    program = sp.run(sp.load(copy), ["weight-prune:sparsity=0.5", "layer-prune:count=0"]).program
    lines = [line.split() for line in MAPS.read_text().splitlines()]
    places = [(*(int(end, 16) for end in line[0].split("-")), line[-1]) for line in lines]
    files = {
        next((file for start, end, file in places if start <= value.data_ptr() < end), None)
        for value in program.parameters.values()
    }
    assert len(files) > 1
    assert all(file is not None and file.startswith(f"{copy.resolve()}/model-0") for file in files)


def test_a_factory_is_not_needed(folder, tmp_path):
    with pytest.raises(UsageError, match="says which model it holds"):
        sp.load(folder, factory="torch.nn:Identity")
    with pytest.raises(InputError, match=r"is a directory without config.json"):
        sp.load(tmp_path)


def test_without_transformers_it_says_so(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(UsageError, match="pip install transformers"):
        hugging_face.read_folder(folder)


def test_models_with_other_inputs_have_no_example(folder):
    model = read_folder(folder)
    model.config.is_encoder_decoder = True
    assert example_inputs(model) is None
