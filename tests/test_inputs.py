import numpy as np
import pytest
import torch
from helpers.command import example, small_program, small_resnet
from safetensors.torch import save_file
from torch import nn

from sparsify.capture import capture
from sparsify.errors import InputError, UsageError
from sparsify.inputs import drawn_like, parse, with_batch


@pytest.mark.parametrize(
    ("spec", "shape", "dtype"),
    [
        ("1x3x8x8", (1, 3, 8, 8), torch.float32),
        ("5", (5,), torch.float32),
        ("[2,3]", (2, 3), torch.float32),
        ("[2, 3]", (2, 3), torch.float32),
        ("[]", (), torch.float32),
        ("float16[2,3]", (2, 3), torch.float16),
        ("int64:2x5", (2, 5), torch.int64),
        ("bfloat16:2x5", (2, 5), torch.bfloat16),
        ("bool[4]", (4,), torch.bool),
    ],
)
def test_one_positional_input(spec, shape, dtype):
    (tensor,), kwargs = parse(spec)
    assert tensor.shape == shape
    assert tensor.dtype == dtype
    assert kwargs == {}


def test_several_inputs_positional_and_named():
    args, kwargs = parse("1x3, ids:int64[2,128]%30522, mask:bool[2,128],scale:2x1")
    assert [a.shape for a in args] == [(1, 3)]
    assert {name: (value.dtype, tuple(value.shape)) for name, value in kwargs.items()} == {
        "ids": (torch.int64, (2, 128)),
        "mask": (torch.bool, (2, 128)),
        "scale": (torch.float32, (2, 1)),
    }
    assert kwargs["mask"].all()
    assert 0 <= kwargs["ids"].min() < kwargs["ids"].max() < 30522
    assert kwargs["ids"].max() > 2


def test_integers_are_zero_or_one_unless_told():
    ((tensor,), _), ((zeros,), _) = parse("int32:100"), parse("uint8:5%1")
    assert set(tensor.tolist()) == {0, 1}
    assert zeros.tolist() == [0] * 5


def test_the_seed_decides():
    assert torch.equal(parse("3x3")[0][0], parse("3x3", seed=0)[0][0])
    assert not torch.equal(parse("3x3")[0][0], parse("3x3", seed=1)[0][0])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "cannot be read. Write 1x3x224x224"),
        ("1x3,", "''"),
        ("1xx3", "'1xx3' cannot be read"),
        ("ids:int64", "cannot be read"),
        ("[2,3", "cannot be read"),
        ("-1x3", "cannot be read"),
        ("int65[2]", "unknown type 'int65'. Known: float32"),
        ("x:complex64[2]", "unknown type 'complex64'"),
        ("1x0x3", "dimension of size 0"),
        ("1000000x8000", "8,000,000,000 values; an example has at most"),
        ("x:2x3,x:2x3", "'x' is given twice"),
        ("2x3%5", "only integers have one"),
        ("bool[3]%2", "only integers have one"),
        ("int8[3]%1000", "int8 does not hold"),
    ],
)
def test_what_cannot_be_read_is_refused(spec, message):
    with pytest.raises(UsageError) as caught:
        parse(spec)
    assert message in str(caught.value)


def test_files_of_tensors(tmp_path):
    values = {"x": torch.ones(2, 3), "ids": torch.tensor([[1, 2]])}
    save_file(values, tmp_path / "in.safetensors")
    np.savez(tmp_path / "in.npz", **{name: value.numpy() for name, value in values.items()})
    for file in ("in.safetensors", "in.npz"):
        args, kwargs = parse(str(tmp_path / file))
        assert args == ()
        assert kwargs.keys() == values.keys()
        assert all(torch.equal(kwargs[name], value) for name, value in values.items())


def broken(tmp_path):
    (tmp_path / "empty.npz").touch()
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "zip.npz").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "text.safetensors").write_text("hello")
    np.save(tmp_path / "one.npy", np.ones(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    np.savez(tmp_path / "pickled.npz", x=np.array([object()]))
    np.savez(tmp_path / "strings.npz", x=np.array(["a"]))
    (tmp_path / "folder.npz").mkdir()
    return ["empty.npz", "text.npz", "zip.npz", "text.safetensors", "one.npz", "pickled.npz", "strings.npz"]


def test_broken_files_are_refused(tmp_path):
    for name in broken(tmp_path):
        with pytest.raises(InputError, match=f"{name} cannot be read as named tensors"):
            parse(str(tmp_path / name))
    for name in ("gone.npz", "folder.npz"):
        with pytest.raises(InputError, match=f"{name} does not exist. Write 1x3x224x224"):
            parse(str(tmp_path / name))


def test_drawn_like_looks_like_the_example():
    generator = torch.Generator().manual_seed(0)
    rows = drawn_like(torch.full((2, 500), 7.0) + torch.randn(2, 500) * 3, (4, 500), generator)
    assert rows.shape == (4, 500)
    assert rows.mean() == pytest.approx(7, abs=0.5)
    assert rows.std() == pytest.approx(3, abs=0.5)
    ids = drawn_like(torch.tensor([[3, 5], [5, 9]]), (50, 2), generator)
    assert ids.shape == (50, 2)
    assert set(ids.unique().tolist()) == {3, 5, 9}
    for dtype in (torch.float16, torch.bfloat16, torch.bool, torch.complex64):
        assert drawn_like(torch.ones(2, 3).to(dtype), (3, 3), generator).dtype == dtype


def test_arrays_that_numpy_saved_without_names_are_positional(tmp_path):
    np.savez(tmp_path / "x.npz", np.zeros((2, 3), np.float32), np.ones((2,), np.int64), mask=np.ones((2,), bool))
    args, kwargs = parse(str(tmp_path / "x.npz"))
    assert [tuple(value.shape) for value in args] == [(2, 3), (2,)]
    assert list(kwargs) == ["mask"]


def test_another_batch_keeps_what_has_none():
    class Model(nn.Module):
        def forward(self, x, table):
            return x @ table

    program = capture(Model(), (torch.randn(6, 3), torch.randn(3, 4)))
    x, table = with_batch(program, 1)
    assert (x.shape, table.shape) == ((1, 3), (3, 4))
    fixed = capture(small_resnet(), (example(),), dynamic_batch=False)
    assert with_batch(fixed, 1)[0].shape == (2, 1, 8, 8)
    assert with_batch(small_program(), 1)[0].shape == (1, 1, 8, 8)
    (found,) = with_batch(small_program(), 5)
    (given,) = small_program().example.leaves()
    assert torch.equal(found, torch.cat([given] * 3)[:5])
