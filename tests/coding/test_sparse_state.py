"""Masked and frozen weights in files: small, and back bit for bit."""

import json
import math
from itertools import pairwise

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import sparsify as sp
from sparsify.coding import rice
from sparsify.coding.bits import packed
from sparsify.coding.sparse_state import SparseState, sparse_parts, state
from sparsify.coding.tensor_file import Part, TensorFile, write_tensors
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
    shapes, biases, coded = 2 * 2 * 8, 4 * 37, sum(len(rice.coded(mask)[1]) for mask in masks.values())
    assert nbytes(pruned) == 4 * kept + coded + shapes + biases
    assert coded < (1200 + 210) / 8 / 2
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
    (lambda t, told: t.pop("0.weight.values"), "mask of 0.weight, but not 0.weight"),
    (lambda t, told: t.update({"0.weight.values": torch.ones(3)}), "the code is not that of a mask that keeps 3"),
    (lambda t, told: t.update({"0.weight.shape": torch.tensor([2, 2])}), "mask of 0.weight does not fit it"),
    (lambda t, told: told.pop("rice"), "mask of 0.weight does not fit it"),
    (lambda t, told: told.pop("draws"), "nothing says what the frozen values of 0.weight are"),
    (lambda t, told: told.update(draws={"0.weight": 3}), "does not say how values are drawn"),
    (lambda t, told: told.update(aliases={"again": "gone"}), "it says that gone has other names"),
])  # fmt: skip
def test_damaged_files_are_refused(program, masks, tmp_path, damage):
    change, error = damage
    parts, told = sparse_parts(frozen(program, masks, LARGEST), pack=True)
    tensors = {part.name: part.make() for part in parts}
    change(tensors, told)
    path = tmp_path / "damaged.safetensors"
    write_tensors(path, [Part.of(name, value) for name, value in tensors.items()], told)
    with pytest.raises(InputError, match=f"is damaged: .*{error}"):
        SparseState(TensorFile(path), path)


def test_files_of_the_first_layout_are_read(program, masks, tmp_path):
    """Bits for every mask, no checksums, and only the package's version in the metadata."""
    before = frozen(program, masks, LARGEST)
    tensors: dict = {name: value.detach() for name, value in program.parameters.items() if name not in NAMES}
    for name, mask in masks.items():
        tensors |= {f"{name}.trained": packed(mask), f"{name}.values": before.parameters[name].detach()[mask],
                    f"{name}.shape": torch.tensor(mask.shape)}  # fmt: skip
    draws = {name: [draw.distribution, draw.scale] for name, draw in frozen_draws(before).items()}
    path = tmp_path / "old.safetensors"
    metadata = {"sparsify": json.dumps({"version": "0.1.0", "draws": draws, "passes": []})}
    save_file({**tensors, SEED: torch.tensor(-1, dtype=torch.int32)}, path, metadata=metadata)
    (tmp_path / "made.py").write_text(MAKE)
    again = sp.load(path, inputs="3x40", factory=f"{tmp_path / 'made.py'}:make")
    same(again, before)
    assert frozen_draws(again) == frozen_draws(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95])
def test_packed_weights_take_little_more_than_the_entropy(tmp_path, sparsity, dtype):
    """Of a mask kept with probability p the entropy is H(p) for each weight, and p times the bits of a value.

    Rice codes take up to 3% more than H(p), which is a sixth of it all, and the header is 600 bytes.
    """
    torch.manual_seed(0)
    model = nn.Linear(256, 1024, bias=False).to(dtype)
    mask = torch.rand(model.weight.shape) < 1 - sparsity
    program = masked(sp.capture(model, (torch.randn(2, 256).to(dtype),)), {"weight": mask})
    size = save_state(program, tmp_path / "a.safetensors", "packed")["bytes"]
    p = float(mask.double().mean())
    entropy = -p * math.log2(p) - (1 - p) * math.log2(1 - p) + p * dtype.itemsize * 8
    assert 8 * size / mask.numel() < 1.02 * entropy


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("way", ["masked", "frozen", "drawn"])
@pytest.mark.parametrize("compress", [False, True])
def test_odd_values_and_buffers_come_back(tmp_path, way, dtype, compress):
    """Payloads of NaN, infinities and -0.0 in weights; counters, flags, scalars and empty tensors among buffers."""
    torch.manual_seed(0)
    model = Odd().to(dtype)
    layer = model.layer
    layer.weight.data.view(-1)[:5] = torch.tensor([float("nan"), -0.0, float("inf"), -float("inf"), 1e-40], dtype=dtype)
    payload = layer.weight.data.view({8: torch.int64, 4: torch.int32, 2: torch.int16}[dtype.itemsize]).view(-1)
    payload[0] |= 1
    model.table.view(-1)[1] = float("nan")
    program = sp.capture(model, (torch.randn(2, 40).to(dtype),))
    mask = torch.rand(layer.weight.shape) < 0.3
    mask.view(-1)[:5] = True
    marks = {"layer.weight": mask}
    after = masked(program, marks) if way == "masked" else frozen(program, marks, 7 if way == "drawn" else None)
    for storage in ("dense", "packed"):
        path = tmp_path / f"{storage}.safetensors"
        save_state(after, path, storage, compress=compress)
        found = SparseState(TensorFile(path), path)
        expected = {name: part.make() for name, part in state(after).items()}
        assert sorted(found) == sorted([*expected, "again.weight"])
        for name, value in {**expected, "again.weight": expected["layer.weight"]}.items():
            assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
            assert torch.equal(found[name].reshape(-1).view(torch.uint8), value.reshape(-1).view(torch.uint8))
        chosen = found.chosen.masks if way == "masked" else found.chosen.trained
        assert torch.equal(chosen["layer.weight"], mask)


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.again = nn.Linear(40, 40), nn.Linear(40, 40, bias=False)
        self.again.weight = self.layer.weight
        self.norm = nn.BatchNorm1d(40)
        self.register_buffer("table", torch.ones(40))
        self.register_buffer("scale", torch.tensor(3))
        self.register_buffer("flags", torch.arange(40) % 3 == 0)
        self.register_buffer("none", torch.ones(0, 40))
        self.register_buffer("kept", torch.ones(40), persistent=False)

    def forward(self, x):
        found = self.norm(self.again(self.layer(x))) * self.table + self.scale
        return torch.cat([torch.where(self.flags, found, x) * self.kept, self.none])


def test_what_fits_is_made_in_the_memory_of_the_module(program, masks, tmp_path):
    path = tmp_path / "a.safetensors"
    save_state(masked(program, masks), path, "packed")
    found, place = SparseState(TensorFile(path), path), torch.full((30, 40), 7.0)
    assert found.read("0.weight", place) is place
    assert torch.equal(place, found["0.weight"])
    for other in (torch.ones(30, 40).half(), torch.ones(40, 30), torch.ones(40, 30).T):
        assert found.read("0.weight", other) is not other
