"""Files of tensors: written as safetensors writes them, read back bit for bit, and never read when damaged."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sparsify.coding.tensor_file import LAYOUT, Part, TensorFile, write_plain, write_tensors
from sparsify.errors import ExportError, InputError

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.uint16, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


def bits(value):
    return value.contiguous().reshape(-1).view(torch.uint8).tolist()


def write(path, tensors, compress=False, **told):
    write_tensors(path, [Part.of(name, value) for name, value in tensors.items()], told, compress=compress)
    return path


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(30, 20, generator=generator)
    weight[0, :3] = torch.tensor([0x7FC00001, -0x80000000, 0x7F800001], dtype=torch.int32).view(torch.float32)
    return {
        "weight": weight, "turned": weight.T, "half": weight.half()[::2], "b.bf16": weight.bfloat16(),
        "scalar": torch.tensor(3), "empty": torch.ones(0, 4), "flag": torch.tensor([True]), "double": weight.double(),
    }  # fmt: skip


@pytest.mark.parametrize("compress", [False, True])
def test_every_bit_comes_back(tmp_path, tensors, compress):
    found = TensorFile(write(tmp_path / "a.safetensors", tensors, compress, more={"a": [1]}))
    assert found.told == {"more": {"a": [1]}}
    assert sorted(found) == sorted(tensors)
    assert bool(found.compressed) == compress
    for name, value in tensors.items():
        assert found.kind(name) == (value.dtype, list(value.shape))
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        assert bits(found[name]) == bits(value)


def test_plain_files_are_those_of_safetensors(tmp_path, tensors):
    names = ("weight", "turned", "half", "flag", "double")  # of other types of one size the order differs
    held = {name: tensors[name].contiguous() for name in names}
    write_plain(tmp_path / "own", [Part.of(name, tensors[name]) for name in names], {"format": "pt"})
    save_file(held, tmp_path / "theirs", {"format": "pt"})
    assert (tmp_path / "own").read_bytes() == (tmp_path / "theirs").read_bytes()
    with pytest.raises(ExportError, match=r"z is torch.complex128, which .safetensors files do not have"):
        write_plain(tmp_path / "own", [Part.of("z", torch.ones(2, dtype=torch.complex128))], {})


shapes, flags = st.lists(st.integers(0, 5), max_size=3), st.booleans()


@given(
    st.lists(st.tuples(st.sampled_from(DTYPES), shapes, st.binary(min_size=1, max_size=8)), max_size=6), st.booleans()
)
@settings(deadline=None, max_examples=40)
def test_whatever_the_types_and_shapes(tmp_path_factory, given, compress):
    tensors = {}
    for number, (dtype, shape, data) in enumerate(given):
        count = torch.Size(shape).numel() * dtype.itemsize
        raw = torch.frombuffer(bytearray(data * (count // len(data) + 1)), dtype=torch.uint8)[:count]
        raw = raw & 1 if dtype == torch.bool else raw
        tensors[f"{number}"] = raw.view(dtype).view(shape)
    path = write(tmp_path_factory.mktemp("any") / "a.safetensors", tensors, compress)
    found = TensorFile(path)
    assert {name: bits(value) for name, value in found.items()} == {name: bits(v) for name, v in tensors.items()}
    if not found.compressed:
        assert {name: bits(value) for name, value in load_file(path).items()} == {n: bits(v) for n, v in found.items()}


def test_the_same_tensors_give_the_same_bytes(tmp_path, tensors):
    one = write(tmp_path / "a", tensors).read_bytes()
    assert write(tmp_path / "b", dict(reversed(tensors.items()))).read_bytes() == one


def test_one_tensor_is_made_at_a_time(tmp_path):
    made = []

    def part(name):
        def make():
            made.append(name)
            return torch.full((4,), float(len(made)))

        return Part(name, torch.float32, (4,), make)

    write_tensors(tmp_path / "a", [part("x"), part("y")], {})
    assert made == ["x", "y"]
    assert load_file(tmp_path / "a")["y"].tolist() == [2.0] * 4


@pytest.mark.parametrize("compress", [False, True])
def test_no_flipped_bit_goes_unnoticed(tmp_path, compress):
    """In the header and in the data: every byte, one of its bits."""
    tensors = {"a": torch.arange(150.0), "b": torch.arange(3, dtype=torch.int16)}
    whole = write(tmp_path / "a.safetensors", tensors, compress, draws={"a": ["uniform", 0.25]}).read_bytes()
    path = tmp_path / "b.safetensors"
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 1 << (place * 5 % 8)
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"b.safetensors"):
            dict(TensorFile(path))


def test_what_is_damaged_is_named(tmp_path, tensors):
    path = write(tmp_path / "a.safetensors", tensors)
    whole = path.read_bytes()
    start = whole.index(tensors["b.bf16"].view(torch.uint8).numpy().tobytes())
    path.write_bytes(whole[: start + 7] + bytes([whole[start + 7] ^ 4]) + whole[start + 8 :])
    found = TensorFile(path)
    assert bits(found["weight"]) == bits(tensors["weight"])
    with pytest.raises(InputError, match=r"a.safetensors is damaged: b.bf16 does not have the checksum"):
        found["b.bf16"]


@pytest.mark.parametrize("length", [0, 4, 8, 200, -1])
def test_a_part_of_a_file_is_refused(tmp_path, tensors, length):
    path = write(tmp_path / "a.safetensors", tensors)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"is not a whole .safetensors file"):
        TensorFile(path)


def test_a_tensor_that_was_put_in_or_taken_out_is_noticed(tmp_path, tensors):
    path = write(tmp_path / "a.safetensors", tensors)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    for other in ({"weight": tensors["weight"]}, {**load_file(path), "new": torch.ones(1)}):
        save_file(other, path, metadata=metadata)
        with pytest.raises(InputError, match="its header does not fit what was written"):
            TensorFile(path)


def test_a_newer_layout_is_refused_with_the_reason(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(1)}, path, metadata={"sparsify": json.dumps({"layout": LAYOUT + 1})})
    with pytest.raises(InputError, match=rf"has layout {LAYOUT + 1}, and this sparsify .* up to {LAYOUT}: .* Install"):
        TensorFile(path)


@pytest.mark.parametrize("text", ['{"version": "0.1.0", "passes": []}', "{}"])
def test_older_files_and_those_of_others_are_read(tmp_path, text):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(2)}, path, metadata={"sparsify": text, "format": "pt"})
    assert TensorFile(path)["a"].tolist() == [1, 1]
    save_file({"a": torch.ones(2)}, path)
    assert TensorFile(path).told == {}


@pytest.mark.parametrize("text", ["[]", "{", "1", '{"layout": "two"}', '{"layout": 2}'])
def test_metadata_that_says_nothing_is_refused(tmp_path, text):
    save_file({"a": torch.ones(2)}, tmp_path / "a", metadata={"sparsify": text})
    with pytest.raises(InputError, match="is damaged"):
        TensorFile(tmp_path / "a")


def test_a_type_that_files_do_not_have(tmp_path):
    with pytest.raises(ExportError, match=r"a is torch.complex128, which .safetensors files do not have"):
        write(tmp_path / "a", {"a": torch.ones(2, dtype=torch.complex128)})
