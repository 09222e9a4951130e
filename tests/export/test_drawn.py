"""Frozen weights in ONNX files that are computed again from a seed."""

import json
from dataclasses import replace

import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from helpers.marks import some
from torch import nn

import sparsify as sp
from sparsify.errors import InputError
from sparsify.export.drawn import DRAWN
from sparsify.export.packing import PACKED, unpack
from sparsify.export.storage import unpacked_file
from sparsify.freezing import frozen, redrawn
from sparsify.masking import masked

SEED = 0xDEADBEEF


class Net(nn.Module):
    """A convolution of no multiple of eight weights, a product, and one whose weight the exporter transposes."""

    def __init__(self):
        super().__init__()
        self.conv, self.wide, self.head = nn.Conv2d(3, 37, 5), nn.Linear(37 * 16, 31), nn.Linear(16, 81)

    def forward(self, x):
        x = torch.relu(self.conv(x)).flatten(2)
        return self.wide(x.flatten(1)), self.head(x)


WEIGHTS = ("conv.weight", "wide.weight", "head.weight")


def half_masks(program, share):
    generator = torch.Generator().manual_seed(3)
    return {name: torch.rand(program.parameters[name].shape, generator=generator) < share for name in WEIGHTS}


def program_of(init="torch", share=0.3, dtype=torch.float32):
    torch.manual_seed(0)
    program = redrawn(sp.capture(Net().to(dtype), (torch.randn(2, 3, 8, 8, dtype=dtype),)), SEED, init)
    return frozen(program, half_masks(program, share), SEED, init)


def outputs(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [value.tobytes() for value in session.run(None, {"x": x.numpy()})]


def held(path):
    return {item.name: onnx.numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer}


def both(program, folder):
    sp.export_onnx(program, folder / "dense.onnx")
    return sp.export_onnx(program, folder / "packed.onnx", storage="packed")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the dense and the packed file of one program."""
    folder = tmp_path_factory.mktemp("files")
    both(program_of(), folder)
    return folder


@pytest.mark.parametrize(
    ("init", "share", "dtype"),
    [
        pytest.param("torch", 0.3, torch.float32, marks=pytest.mark.slow),
        ("kaiming", 0.3, torch.float32),
        pytest.param("kaiming", 0.05, torch.float32, marks=pytest.mark.slow),
        pytest.param("sign", 0.001, torch.float32, marks=pytest.mark.slow),
        pytest.param("xavier", 0.0, torch.float32, marks=pytest.mark.slow),
        ("kaiming", 0.3, torch.float16),
        pytest.param("torch", 0.05, torch.float16, marks=pytest.mark.slow),
    ],
)
def test_they_are_the_dense_file_bit_for_bit_and_back(tmp_path, init, share, dtype):
    report = both(program_of(init, share, dtype), tmp_path)
    assert [item["drawn"] for item in report["packed"]] == [True] * 3
    x = torch.randn(5, 3, 8, 8, dtype=dtype)
    assert outputs(tmp_path / "packed.onnx", x) == outputs(tmp_path / "dense.onnx", x)
    unpacked_file(tmp_path / "packed.onnx", tmp_path / "again.onnx")
    expected, again = held(tmp_path / "dense.onnx"), held(tmp_path / "again.onnx")
    assert sorted(again) == sorted(expected)
    assert all(again[name].tobytes() == expected[name].tobytes() for name in expected)
    model, dense = (onnx.load(tmp_path / name) for name in ("again.onnx", "dense.onnx"))
    assert [node.op_type for node in model.graph.node] == [node.op_type for node in dense.graph.node]
    assert not model.functions
    assert not {DRAWN, PACKED} & {item.key for item in model.metadata_props}


@pytest.mark.parametrize("share", some([0.3], [0.3, 0.05]))
def test_a_frozen_file_has_four_bytes_more_of_data_than_a_pruned_one(tmp_path, share):
    program = program_of(share=share)
    pruned = masked(redrawn(sp.capture(Net(), program.example.args), SEED), half_masks(program, share))
    for name, one in (("frozen", program), ("pruned", pruned)):
        sp.export_onnx(one, tmp_path / f"{name}.onnx", storage="packed")
    data = {name: held(tmp_path / f"{name}.onnx") for name in ("frozen", "pruned")}
    weights = {name: sum(v.nbytes for key, v in found.items() if ".size" not in key) for name, found in data.items()}
    assert weights["frozen"] - weights["pruned"] == 4
    assert data["frozen"]["sparsify.seed"].nbytes == 4
    assert (tmp_path / "frozen.onnx").stat().st_size < (tmp_path / "pruned.onnx").stat().st_size + 8500  # the function


def test_such_a_file_says_that_it_is_for_onnxruntime(files):
    metadata = {item.key: item.value for item in onnx.load(files / "packed.onnx").metadata_props}
    entry = json.loads(metadata[DRAWN])
    assert entry["runtime"] == "onnxruntime"
    assert list(entry["tensors"]) == ["conv.weight", "wide.weight", "head.weight"]
    assert entry["tensors"]["conv.weight"]["distribution"] == "uniform"


def test_auto_and_dense_and_stored_bases_draw_nothing(tmp_path):
    program = program_of()
    torch.manual_seed(0)
    plain = sp.capture(Net(), program.example.args)
    stored = frozen(plain, half_masks(plain, 0.3))
    for one, storage in ((program, "auto"), (program, "dense"), (stored, "packed")):
        report = sp.export_onnx(one, tmp_path / "m.onnx", storage=storage)
        assert report["storage"] == "dense"
        assert DRAWN not in {item.key for item in onnx.load(tmp_path / "m.onnx").metadata_props}


def test_what_onnxruntime_would_not_fold_stays_dense(tmp_path, monkeypatch):
    program = program_of("kaiming")
    monkeypatch.setattr("sparsify.export.packing._FOLDING", 4 * 4 * 37 * 16 * 31)  # four numbers for each value
    report = sp.export_onnx(program, tmp_path / "m.onnx", storage="packed")
    assert "wide.weight" not in [item["name"] for item in report["packed"]]


def test_trained_values_may_be_rounded_and_drawn_ones_are_not(files, tmp_path):
    program = program_of()
    report = sp.export_onnx(program, tmp_path / "packed.onnx", storage="packed:values=int8")
    assert 0 < report["rounding"] < 0.05
    unpacked_file(tmp_path / "packed.onnx", tmp_path / "again.onnx")
    changed = held(files / "dense.onnx")["conv.weight"] != held(tmp_path / "again.onnx")["conv.weight"]
    kept = program.frozen["conv.weight"].numpy()
    assert changed[kept].any()
    assert not changed[~kept].any()


@pytest.mark.parametrize(
    "change",
    [
        lambda model, entry: model.metadata_props.__setitem__(DRAWN, "{"),
        lambda model, entry: model.graph.initializers.pop("sparsify.seed"),
        lambda model, entry: entry["tensors"]["conv.weight"].update(distribution="cauchy"),
        lambda model, entry: entry["tensors"]["conv.weight"].update(stream=1 << 32),
        lambda model, entry: entry["tensors"]["conv.weight"].update(scale=float("nan")),
        lambda model, entry: entry["tensors"]["conv.weight"].pop("stream"),
    ],
    ids=["no JSON", "no seed", "distribution", "stream", "scale", "lacking"],
)
def test_damaged_files_are_noticed(files, change):
    model = ir.load(files / "packed.onnx")
    entry = json.loads(model.metadata_props[DRAWN])
    model.metadata_props[DRAWN] = "unchanged"
    change(model, entry)
    if model.metadata_props[DRAWN] == "unchanged":
        model.metadata_props[DRAWN] = json.dumps(entry)
    with pytest.raises(InputError, match=r"sparsify\.drawn of the metadata or its seed cannot be read"):
        unpack(model)


@pytest.mark.parametrize("share", some([0.3], [0.3, 0.05]))
def test_a_fused_batch_norm_multiplies_what_is_drawn(tmp_path, share):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 37, 5, bias=False), nn.BatchNorm2d(37), nn.ReLU())
    program = redrawn(sp.capture(model, (torch.randn(2, 3, 8, 8),)), SEED, "kaiming")
    statistics = {"1.running_var": torch.rand(37) + 0.1, "1.running_mean": torch.randn(37)}
    program = replace(program, buffers={**program.buffers, **statistics})
    mask = {"0.weight": torch.rand(37, 3, 5, 5, generator=torch.Generator().manual_seed(3)) < share}
    report = both(frozen(program, mask, SEED, "kaiming"), tmp_path)
    assert [item["drawn"] for item in report["packed"]] == [True]
    assert held(tmp_path / "packed.onnx")["0.weight.factors"].nbytes == 4 * 37
    unpacked_file(tmp_path / "packed.onnx", tmp_path / "again.onnx")
    expected, again = (held(tmp_path / name)["0.weight"] for name in ("dense.onnx", "again.onnx"))
    assert again.tobytes() == expected.tobytes()


@pytest.mark.parametrize("share", [0.3, 0.05])
def test_in_float64(tmp_path, share):
    program = redrawn(sp.capture(nn.Linear(61, 37).double(), (torch.randn(2, 61).double(),)), SEED)
    mask = torch.rand(37, 61, generator=torch.Generator().manual_seed(3)) < share
    report = sp.export_onnx(frozen(program, {"weight": mask}, SEED), tmp_path / "m.onnx", storage="packed")
    assert [item["drawn"] for item in report["packed"]] == [True]


def test_a_tied_weight_is_drawn_in_both_places(tmp_path):
    model = nn.Sequential(nn.Embedding(60, 40), nn.Linear(40, 60, bias=False))
    model[1].weight = model[0].weight
    program = sp.capture(model, (torch.randint(0, 60, (2, 7)),))
    program = redrawn(program, SEED)
    (name,) = program.parameters
    mask = {name: torch.rand(60, 40) < 0.2}
    report = sp.export_onnx(frozen(program, mask, SEED), tmp_path / "m.onnx", storage="packed")
    assert [item["drawn"] for item in report["packed"]] == [True, True]


def test_weights_that_would_take_too_much_memory_are_stored(tmp_path, monkeypatch):
    program = program_of()
    sizes = sorted(mask.numel() for mask in program.frozen.values())
    monkeypatch.setattr("sparsify.export.packing._DRAWING", 80 * (sum(sizes) - 1))  # uniform ones hash a word each
    report = both(program, tmp_path)
    assert 0 < sum(item["drawn"] for item in report["packed"]) < 3
    x = torch.randn(5, 3, 8, 8)
    assert outputs(tmp_path / "packed.onnx", x) == outputs(tmp_path / "dense.onnx", x)
