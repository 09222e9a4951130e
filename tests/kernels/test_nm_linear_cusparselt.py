"""2:4 in cuSPARSELt, seen without it: what the library is given, and when it is taken over dense.

Its compressed weight is here the dense one, and its product a dense product.
"""

import pytest
import torch
from helpers.matrices import nm_mask
from helpers.sparse_linear import assert_close
from torch.nn import functional as F

from sparsify.formats.nm import Nm
from sparsify.kernels import _cusparselt, _measured, _on_gpu
from sparsify.kernels.nm_linear import nm_linear

KEY = "nm_linear bfloat16 32x64 2:4 batch 128"


@pytest.fixture
def library(tmp_path, monkeypatch):
    """The calls of a pretended library: of each the size of the batch and the algorithm."""
    calls = []

    def product(compressed, x, *, bias, transpose_result, alg_id, split_k, split_k_mode):
        assert transpose_result
        assert x.shape[1] % 8 == 0
        assert x.t().is_contiguous()
        calls.append((x.shape[1], alg_id, split_k, split_k_mode))
        return F.linear(x.t(), compressed, bias)

    def search(compressed, x, bias=None, transpose_result=False):
        assert transpose_result
        calls.append("search")
        return x.shape[1] // 8

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _measured._read.cache_clear()
    monkeypatch.setattr(_on_gpu, "usable", lambda x: True)
    monkeypatch.setattr(_cusparselt, "available", lambda: True)
    monkeypatch.setattr(torch, "_cslt_compress", lambda dense: dense.clone())
    monkeypatch.setattr(torch, "_cslt_sparse_mm", product)
    monkeypatch.setattr(torch, "_cslt_sparse_mm_search", search)
    monkeypatch.setattr(torch._C, "_cusparselt", None, raising=False)
    return calls


def given(batch=100, outputs=32, inputs=64):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=generator).bfloat16()
    stored = Nm.encode(weight, nm_mask((outputs, inputs), 2, 4), 2, 4)
    x, bias = torch.randn(batch, inputs, generator=generator).bfloat16(), torch.randn(outputs).bfloat16()
    return x, stored.values, stored.codes, bias, stored.decode()


def tuned(monkeypatch, times, *arguments):
    monkeypatch.setattr(_on_gpu, "least", lambda calls, device, launched: {name: times[name] for name in calls})
    with _on_gpu.tuning() as taken:
        out = nm_linear(*arguments)
    return out, taken


def test_it_is_not_taken_before_it_was_measured(library):
    x, values, codes, bias, dense = given()
    assert torch.equal(nm_linear(x, values, codes, bias), F.linear(x, dense, bias))
    assert library == []


@pytest.mark.parametrize(("times", "way"), [
    ((0.97, 2.0, 1.0), "cusparselt"),
    ((0.98, 2.0, 1.0), "dense"),
    ((0.97, 0.5, 1.0), "cusparselt searched"),
    ((2.0, 2.0, 1.0), "dense"),
])  # fmt: skip
def test_it_is_taken_where_it_measures_three_hundredths_faster_than_dense(library, monkeypatch, times, way):
    x, values, codes, bias, dense = given()
    measured = dict(zip(("cusparselt", "cusparselt searched", "dense"), times, strict=True))
    out, taken = tuned(monkeypatch, measured, x, values, codes, bias, "relu")
    assert taken == [way]
    assert_close(out, F.linear(x.double(), dense.double(), bias.double()).relu())
    assert dict(_measured.known("cpu")[KEY]) == measured
    library.clear()
    assert torch.equal(nm_linear(x, values, codes, bias, "relu"), out)
    assert library == {"dense": [], "cusparselt": [(104, 0, 1, -1)], "cusparselt searched": [(104, 13, 1, -1)]}[way]


def test_the_fastest_algorithm_is_looked_for_once_for_each_size_of_a_batch(library):
    x, *_, bias, dense = given(batch=100)
    compressed = torch._cslt_compress(dense)
    for batch in (100, 97, 65, 5):
        found = _cusparselt.multiply_searched(x[:batch], compressed, bias)
        assert torch.equal(found, F.linear(x[:batch], dense, bias))
    assert library == ["search", (104, 13, 1, -1), (104, 13, 1, -1), (72, 13, 1, -1), "search", (8, 1, 1, -1)]


def test_a_library_that_tells_more_is_asked_for_it(library, monkeypatch):
    class Library:
        @staticmethod
        def mm_search(*given):
            assert given[3:] == (None, None, True)  # alpha, type of the result, transposed
            return 3, 4, 1, 9

    monkeypatch.setattr(torch._C, "_cusparselt", Library, raising=False)
    x, *_, bias, dense = given(batch=8)
    assert _cusparselt.search(x, dense, bias) == ((3, 4, 1), 9)
    _cusparselt.multiply_searched(x, dense, bias)
    assert library == [(8, 3, 4, 1)]


@pytest.mark.parametrize(("outputs", "inputs"), [(31, 64), (32, 48)])
def test_sizes_that_it_does_not_take(library, monkeypatch, outputs, inputs):
    x, values, codes, bias, dense = given(100, outputs, inputs)
    out, taken = tuned(monkeypatch, {"dense": 1.0}, x, values, codes, bias)
    assert taken == ["dense"]
    assert torch.equal(out, F.linear(x, dense, bias))
