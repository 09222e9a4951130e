import importlib.util

import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsify.coding.planes import check_zstd, compressed, decompressed, longest
from sparsify.errors import UsageError

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8, torch.bool,
    torch.complex64, torch.float8_e4m3fn,
]  # fmt: skip


@given(st.binary(min_size=8, max_size=2000), st.sampled_from(DTYPES))
@settings(deadline=None, max_examples=60)
def test_every_bit_comes_back(data, dtype):
    raw = torch.frombuffer(bytearray(data[: len(data) // 8 * 8]), dtype=torch.uint8)
    value = (raw & 1).bool() if dtype == torch.bool else raw.view(dtype)
    code = compressed(value)
    assert len(code) <= longest(len(value), dtype)
    again = decompressed(code, dtype, value.shape)
    assert again.dtype == dtype
    assert torch.equal(again.view(torch.uint8), value.view(torch.uint8))


def test_normal_weights_get_smaller_and_any_zstd_reads_them():
    value = torch.randn(256, 257, generator=torch.Generator().manual_seed(0)) * 0.02
    code = compressed(value.T)
    assert len(code) < 0.9 * value.nbytes
    assert torch.equal(decompressed(code, torch.float32, (257, 256)), value.T)
    plain = zstandard.ZstdDecompressor().stream_reader(code.numpy().data, read_across_frames=True).read()
    assert plain == value.T.reshape(-1, 1).view(torch.uint8).T.contiguous().numpy().tobytes()


@pytest.mark.parametrize("change", [
    lambda code: code[:-1],
    lambda code: code[1:],
    lambda code: torch.cat([code, code]),
    lambda code: code[:0],
])  # fmt: skip
def test_what_is_no_code_is_refused(change):
    code = compressed(torch.arange(1000.0))
    with pytest.raises(ValueError, match=r"."):
        decompressed(change(code), torch.float32, (1000,))


@pytest.mark.parametrize("count", [0, 999, 1001, 10**15])
def test_another_size_is_refused(count):
    with pytest.raises(ValueError, match=r"no code of|not that of"):
        decompressed(compressed(torch.arange(1000.0)), torch.float32, (count,))


def test_without_the_package_nothing_starts(monkeypatch):
    check_zstd()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'sparsify-fx\[zstd\]'"):
        check_zstd()
