import os
import pickle
import struct

import numpy as np
import pytest

from sparsify.errors import InputError, UntrustedError
from sparsify.loading.safe_array import load_arrays

ARRAY = np.arange(12, dtype=np.uint8).reshape(3, 4)


def written(path, value, protocol=2):
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


def python_2(array: np.ndarray, key: bytes) -> bytes:
    """Return the instructions with which Python 2 and numpy 1 pickle {key: array}, as in CIFAR's files."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    rows, columns = array.shape
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    kind = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xff"
    kind += b"J\xff\xff\xff\xffK\x00tb"
    content = array.tobytes()
    state = b"(K\x01K" + bytes([rows]) + b"K" + bytes([columns]) + b"\x86" + kind + b"\x89"
    state += b"T" + struct.pack("<i", len(content)) + content + b"tb"
    return b"\x80\x02}" + text(key) + made + state + b"s."


def test_what_python_2_wrote(tmp_path):
    path = tmp_path / "data_batch_1"
    path.write_bytes(python_2(ARRAY, b"data"))
    found = load_arrays(path)
    assert list(found) == [b"data"]
    assert np.array_equal(found[b"data"], ARRAY)
    assert np.array_equal(pickle.loads(path.read_bytes(), encoding="bytes")[b"data"], ARRAY)  # numpy agrees


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize(
    "array",
    [
        ARRAY,
        np.asfortranarray(ARRAY),
        np.arange(3, dtype=">i4"),
        np.linspace(0, 1, 5),
        np.zeros((0, 3), np.int64),
        np.array([True, False]),
    ],
    ids=["bytes", "columns first", "big-endian", "floats", "empty", "booleans"],
)
def test_arrays(tmp_path, array, protocol):
    (found, rest) = load_arrays(written(tmp_path / "x", [array, {"a": (1, b"b", None, 2.5)}], protocol))
    assert np.array_equal(found, array)
    assert found.dtype == array.dtype
    assert rest == {"a": (1, b"b", None, 2.5)}


class Harmful:
    def __reduce__(self):
        return os.system, ("exit 7",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_no_code_runs(tmp_path, protocol):
    path = written(tmp_path / "bad", {b"data": Harmful()}, protocol)
    with pytest.raises(UntrustedError, match=r"bad could run code when it is loaded: it uses (posix|nt)\.system"):
        load_arrays(path)


@pytest.mark.parametrize("value", [np.array(["a"]), np.array([object()])], ids=["text", "objects"])
def test_arrays_of_other_things(tmp_path, value):
    with pytest.raises(InputError, match=r"x holds an array of the type|x could run code"):
        load_arrays(written(tmp_path / "x", value))


def test_an_array_with_too_few_bytes(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(python_2(ARRAY, b"data").replace(b"K\x03K\x04\x86", b"K\x03K\x05\x86"))
    with pytest.raises(InputError, match=r"x holds an array of shape \(3, 5\) with 12 bytes"):
        load_arrays(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02}", python_2(ARRAY, b"data")[:-30], b"\x80\x02]q\0h\0a."])
def test_damaged_files(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x is damaged or no pickle.*complete copy"):
        load_arrays(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"x is damaged or no pickle: .*No such file"):
        load_arrays(tmp_path / "x")
