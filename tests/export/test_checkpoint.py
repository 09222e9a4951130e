import json

import pytest
import torch
from helpers.command import small_program
from helpers.models import ConvNet, equal_leaves, images, rows, run, train
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import sparsify as sp
from sparsify.errors import ExportError, InputError
from sparsify.export import checkpoint
from sparsify.export.checkpoint import save_state, unpacked_state


def test_the_users_model_loads_it(tmp_path):
    program = sp.capture(ConvNet(), (images(),))
    module = program.module(training=True)
    train(module, [images()])
    program = program.with_state(module)
    assert save_state(program, tmp_path / "m.safetensors")["bytes"] == (tmp_path / "m.safetensors").stat().st_size
    model = ConvNet()
    model.load_state_dict(load_file(tmp_path / "m.safetensors"))
    assert equal_leaves(run(model.eval(), [images()]), run(program.module(), [images()]))


def test_ties_are_written_once_and_transient_buffers_not(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    model[0].register_buffer("table", torch.ones(4), persistent=False)
    save_state(sp.capture(model, (rows(),)), tmp_path / "m.safetensors")
    assert load_file(tmp_path / "m.safetensors").keys() == {"0.weight"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_bit_is_kept(tmp_path, dtype):
    model = nn.Linear(4, 4).to(dtype)
    model.weight.data[0, 0] = float("nan")
    model.weight.data = model.weight.data.T
    save_state(sp.capture(model, (rows().to(dtype),)), tmp_path / "m.safetensors")
    found = load_file(tmp_path / "m.safetensors")["weight"]
    assert found.dtype == dtype
    assert torch.equal(found.isnan(), model.weight.isnan())
    assert torch.equal(found.nan_to_num(), model.weight.nan_to_num())


def test_metadata(tmp_path):
    program = sp.capture(ConvNet(), (images(),)).applied("shrink")
    save_state(program, tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        told = json.loads(file.metadata()["sparsify"])
        assert (told["version"], told["passes"]) == (sp.__version__, ["shrink"])


def test_what_reads_back_different_does_not_appear(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "TensorFile", lambda path: {n: v + 1 for n, v in load_file(path).items()})
    with pytest.raises(ExportError, match=r"reads back different") as caught:
        save_state(sp.capture(ConvNet(), (images(),)), tmp_path / "m.safetensors")
    assert caught.value.exit_status == 3
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        save_state(sp.capture(ConvNet(), (images(),)), tmp_path / "gone" / "m.safetensors")


def test_masks_are_written_as_bits_and_come_back(tmp_path):
    path = tmp_path / "m.safetensors"
    result = sp.run(
        sp.capture(nn.Sequential(nn.Linear(4, 9), nn.Linear(9, 2)), (rows(),)), ["weight-prune:sparsity=0.6"]
    )
    save_state(result.program, path)
    written = load_file(path)
    assert written["0.weight.bitmask"].shape == (5,)
    assert int((written["0.weight"] == 0).sum()) == int((~result.program.masks["0.weight"]).sum())
    (tmp_path / "made.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Linear(4, 9), nn.Linear(9, 2))\n"
    )
    again = sp.load(path, inputs="3x4", factory=f"{tmp_path / 'made.py'}:make")
    assert again.masks.keys() == result.program.masks.keys()
    assert all(torch.equal(mask, again.masks[name]) for name, mask in result.program.masks.items())
    assert equal_leaves(run(again.module(), [rows()]), run(result.program.module(), [rows()]))


def test_a_mask_that_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    save_file({"weight": torch.ones(4, 4), "weight.bitmask": torch.ones(3, dtype=torch.uint8)}, path)
    with pytest.raises(InputError, match=r"damaged: the mask of weight does not fit it"):
        sp.load(path, inputs="3x4", factory="torch.nn:Identity")


def test_embedded_parameters_are_written_out(tmp_path):
    """A model that loaded the coefficients as its weights would compute something else."""
    program = sp.run(small_program(), ["embed:kind=interspace,basis=random"]).program
    save_state(program, tmp_path / "state.safetensors")
    found = load_file(tmp_path / "state.safetensors")
    assert not any("basis" in name for name in found)
    torch.testing.assert_close(found["layer1.0.conv1.weight"], small_program().parameters["layer1.0.conv1.weight"].data)


@pytest.fixture
def pruned():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 65), nn.ReLU(), nn.Linear(65, 3))
    return sp.run(sp.capture(model, (torch.randn(2, 64),)), ["weight-prune:sparsity=0.9,scope=layer"]).program


@pytest.mark.parametrize("compress", [False, True])
def test_a_packed_file_is_unpacked_to_the_dense_one(tmp_path, pruned, compress):
    frozen = sp.run(pruned, ["fold", "freeze:sparsity=0.8"]).program
    for number, program in enumerate((pruned, frozen)):
        dense, packed, again = (tmp_path / f"{name}{number}.safetensors" for name in ("dense", "packed", "again"))
        save_state(program, dense)
        save_state(program, packed, "packed", compress=compress)
        names, before, after = unpacked_state(packed, again)
        assert {"0.weight", "2.weight"} <= set(names)
        assert (before, after) == (packed.stat().st_size, again.stat().st_size)
        assert again.read_bytes() == dense.read_bytes()
        with pytest.raises(InputError, match=r"no weight of this file is packed"):
            unpacked_state(dense, tmp_path / "more.safetensors")
    assert not (tmp_path / "more.safetensors").exists()


def test_auto_packs_where_it_saves_a_tenth(tmp_path, pruned):
    path = tmp_path / "a.safetensors"
    assert save_state(pruned, path, "auto")["storage"] == "packed"
    little = sp.run(sp.capture(nn.Linear(64, 64), (torch.randn(2, 64),)), ["weight-prune:sparsity=0.05"]).program
    assert save_state(little, path, "auto")["storage"] == "dense"
    assert "weight" in load_file(path)


def test_compressed_weights_take_less(tmp_path, pruned):
    path = tmp_path / "a.safetensors"
    sizes = [save_state(pruned, path, storage, compress=c)["bytes"] for storage in ("dense", "packed") for c in (0, 1)]
    assert sizes[1] < 0.5 * sizes[0]
    assert sizes[3] < sizes[2] < 0.2 * sizes[0]


def test_a_tied_model_takes_its_file_back(tmp_path):
    (tmp_path / "made.py").write_text(
        "from torch import nn\ndef make():\n    m = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))\n"
        "    m[1].weight = m[0].weight\n    return m\n"
    )
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    save_state(sp.capture(model, (rows(),)), tmp_path / "m.safetensors")
    again = sp.load(tmp_path / "m.safetensors", inputs="3x4", factory=f"{tmp_path / 'made.py'}:make")
    assert equal_leaves(run(again.module(), [rows()]), run(model.eval(), [rows()]))


def test_masks_below_an_embedding_are_written_out(tmp_path):
    """They are masks of coefficients, which files do not have."""
    specs = ["embed:kind=interspace", "weight-prune:sparsity=0.5"]
    program = sp.run(small_program(), specs).program
    save_state(program, tmp_path / "state.safetensors", "packed")
    assert not any(name.endswith(".coefficients.bitmask") for name in load_file(tmp_path / "state.safetensors"))
