"""index_linear on other processors, threads and processes: the same layer on each."""

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers.matrices import kept_only, mask_of
from torch.nn import functional as F

from sparsify.formats.index import Index
from sparsify.kernels.index_linear import index_linear

_threads = pytest.importorskip("sparsify.kernels._threads")
pytest.importorskip("numba")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def layer(batch, shape=(700, 300), density=0.3):
    """Return a sparse layer that is large enough for two threads, as a call, and what it should return."""
    generator = torch.Generator().manual_seed(batch)
    mask = mask_of(shape, density)
    weight = kept_only(torch.randn(shape, generator=generator), mask)
    x, bias = torch.randn(batch, shape[1], generator=generator), torch.randn(shape[0], generator=generator)
    found = Index.encode(weight, mask)
    return (
        lambda: index_linear(x, found.values, found.columns, found.offsets, bias),
        F.linear(x.double(), weight.double(), bias.double()),
    )


@pytest.mark.parametrize("batch", [1, 3, 8, 16, 40])
def test_bits_do_not_depend_on_threads(batch, two_threads, monkeypatch):
    call, expected = layer(batch)
    found = [call()]
    monkeypatch.setattr(_threads, "_openmp", lambda: None)
    found.append(call())
    torch.set_num_threads(1)
    found.append(call())
    assert all(torch.equal(found[0], other) for other in found)
    assert torch.allclose(found[0].double(), expected, atol=1e-4)  # sums of 90 products around 1, in float32


@pytest.mark.parametrize("openmp", [True, False])
def test_several_callers_at_once(openmp, two_threads, monkeypatch):
    if not openmp:
        monkeypatch.setattr(_threads, "_openmp", lambda: None)
    layers = [layer(batch) for batch in (1, 4, 33)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda number: layers[number % 3][0](), range(30)))
    assert all(torch.equal(value, layers[number % 3][0]()) for number, value in enumerate(found))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_a_forked_process(two_threads):
    call, _ = layer(8)
    here = call()
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def child():
        torch.set_num_threads(2)
        sender.send(call().tolist())

    process = context.Process(target=child)
    process.start()
    assert receiver.poll(60), "the forked process hangs"
    assert torch.equal(torch.tensor(receiver.recv()), here)
    process.join()


PROGRAM = """
import torch
from sparsify.formats.index import Index
from sparsify.kernels.index_linear import index_linear

generator = torch.Generator().manual_seed(0)
weight = torch.randn(70, 133, generator=generator).clamp(min=0.5) - 0.5
found = Index.encode(weight, weight != 0)
for batch in (1, 4, 33):
    x = torch.randn(batch, 133, generator=generator)
    sums = index_linear(x, found.values, found.columns, found.offsets)
    assert torch.allclose(sums, x @ weight.t(), atol=1e-4), batch
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="processors of other makers there")
@pytest.mark.parametrize("features", ["+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt,+sse4.2", ""])
def test_without_newer_instructions(features):
    """The vectors are LLVM's, which writes them for AVX2, and for processors without even that."""
    name = {"x86_64": "haswell" if features else "x86-64"}.get(os.uname().machine, "generic")
    environment = {**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features if name == "haswell" else ""}
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, env=environment, timeout=300)
