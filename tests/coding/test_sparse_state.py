"""Masked and frozen weights in files: small, and back bit for bit."""

import json
from itertools import pairwise

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import sparsify as sp
from sparsify.errors import InputError
from sparsify.export.checkpoint import save_state
from sparsify.freezing import SEED, frozen, frozen_draws, redrawn
from sparsify.masking import masked
from sparsify.verify import outputs

MAKE = "from torch import nn\ndef make():\n    return nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 7))\n"
NAMES = ("0.weight", "2.weight")
LARGEST = (1 << 32) - 1


@pytest.fixture
def program():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 7))
    return redrawn(sp.capture(model, (torch.randn(3, 40),)), LARGEST)


@pytest.fixture
def masks(program):
    generator = torch.Generator().manual_seed(3)
    return {name: torch.rand(program.parameters[name].shape, generator=generator) < 0.05 for name in NAMES}


@pytest.fixture
def back(tmp_path):
    (tmp_path / "made.py").write_text(MAKE)

    def write_and_read(program, storage):
        path = tmp_path / f"{storage}.safetensors"
        save_state(program, path, storage)
        return load_file(path), sp.load(path, inputs="3x40", factory=f"{tmp_path / 'made.py'}:make")

    return write_and_read


def nbytes(tensors):
    return sum(value.nbytes for value in tensors.values())


def same(found, expected):
    for name in NAMES:
        assert torch.equal(found.parameters[name].view(torch.int32), expected.parameters[name].view(torch.int32))
    x = expected.example.leaves()
    assert torch.equal(outputs(found, x)[0], outputs(expected, x)[0])


def test_a_frozen_model_costs_four_bytes_more_than_a_pruned_one(program, masks, back):
    pruned, again = back(masked(program, masks), "packed")
    kept = sum(int(mask.sum()) for mask in masks.values())
    shapes, biases, bits = 2 * 2 * 8, 4 * 37, -(-1200 // 8) - (-210 // 8)
    assert nbytes(pruned) == 4 * kept + bits + shapes + biases
    assert nbytes(pruned) < nbytes(dict(program.parameters)) / 8
    still, as_frozen = back(frozen(program, masks, LARGEST), "packed")
    assert nbytes(still) == nbytes(pruned) + 4
    assert still[SEED].dtype == torch.int32
    assert all(torch.equal(again.masks[name], masks[name]) for name in NAMES)
    assert all(torch.equal(as_frozen.frozen[name], masks[name]) for name in NAMES)


@pytest.mark.parametrize("storage", ["dense", "packed"])
def test_masks_come_back(program, masks, back, storage):
    before = masked(program, masks)
    _, again = back(before, storage)
    assert again.masks.keys() == masks.keys()
    assert all(torch.equal(again.masks[name], masks[name]) for name in NAMES)
    kept = {name: torch.where(masks[name], before.parameters[name], 0.0) for name in NAMES}
    assert all(torch.equal(again.parameters[name], kept[name]) for name in NAMES)
    assert torch.equal(outputs(again, before.example.leaves())[0], outputs(before)[0])


@pytest.mark.parametrize("storage", ["dense", "packed"])
@pytest.mark.parametrize("seed", [None, LARGEST])
def test_what_is_frozen_comes_back(program, masks, back, storage, seed):
    before = frozen(program, masks, seed)
    tensors, again = back(before, storage)
    assert list(again.frozen) == list(NAMES)
    assert not again.masks
    assert all(torch.equal(again.frozen[name], masks[name]) for name in NAMES)
    assert frozen_draws(again) == frozen_draws(before)
    assert (SEED in again.buffers) == (seed is not None)
    same(again, before)
    assert ("0.weight" in tensors) == (storage == "dense")


def test_some_masked_some_frozen_some_whole(program, masks, back):
    before = masked(frozen(program, {NAMES[0]: masks[NAMES[0]]}, LARGEST), {NAMES[1]: masks[NAMES[1]]})
    _, again = back(before, "packed")
    assert list(again.frozen) == [NAMES[0]]
    assert list(again.masks) == [NAMES[1]]
    assert torch.equal(outputs(again, before.example.leaves())[0], outputs(before)[0])


def test_a_model_of_ones_own_takes_the_dense_file(program, masks, back):
    before = frozen(program, masks, LARGEST)
    tensors, _ = back(before, "dense")
    model = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 7))
    lacking, _ = model.load_state_dict(tensors, strict=False)
    assert not lacking
    x = before.example.args[0]
    assert torch.equal(model(x), outputs(before)[0])


def test_the_same_program_gives_the_same_bytes(program, masks, tmp_path):
    before = frozen(program, masks, LARGEST)
    files = [tmp_path / f"{number}.safetensors" for number in range(2)]
    for path in files:
        save_state(before, path, "packed")
    assert all(one.read_bytes() == other.read_bytes() for one, other in pairwise(files))
    with safe_open(files[0], "pt") as file:
        assert json.loads(file.metadata()["sparsify"])["draws"]["0.weight"] == ["uniform", 1 / 40**0.5]


@pytest.mark.parametrize("damage", [
    (lambda t: t.pop("0.weight.values"), "mask of 0.weight, but not 0.weight"),
    (lambda t: t.update({"0.weight.values": torch.ones(3)}), "does not fit its 3 values"),
    (lambda t: t.update({"0.weight.shape": torch.tensor([2, 2])}), "mask of 0.weight does not fit it"),
    (lambda t: None, "nothing says what the frozen values of 0.weight are"),  # the metadata is lost
])  # fmt: skip
def test_damaged_files_are_refused(program, masks, back, tmp_path, damage):
    change, error = damage
    tensors, _ = back(frozen(program, masks, LARGEST), "packed")
    change(tensors)
    path = tmp_path / "damaged.safetensors"
    save_file(tensors, path)
    with pytest.raises(InputError, match=f"is damaged: .*{error}"):
        sp.load(path, inputs="3x40", factory=f"{tmp_path / 'made.py'}:make")
