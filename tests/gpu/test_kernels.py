"""Sparse layers on a GPU: every kernel and every plan against float64, gradients, and the choice among them."""

import pytest
import torch
from helpers.matrices import mask_of, nm_mask
from torch.nn import functional as F

from sparsify.formats.bitmask import Bitmask
from sparsify.formats.block import BlockRows
from sparsify.formats.index import Index
from sparsify.formats.nm import Nm
from sparsify.kernels import _cusparselt, _measured, _on_gpu
from sparsify.lowering.sites import FORMS, operator_of

pytestmark = pytest.mark.gpu

DEVICE = torch.device("cuda")
ACTIVATIONS = {"none": lambda z: z, "relu": torch.relu, "gelu": F.gelu, "silu": F.silu}
SHAPES = [(16, 64), (5, 3), (37, 100), (200, 1000), (1000, 200), (512, 2048)]
ROUNDING = {torch.bfloat16: 3e-2, torch.float16: 4e-3, torch.float32: 1e-5}  # of the largest, rounded several times


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _measured._read.cache_clear()


def tiles(shape, side):
    down, across = -(-shape[0] // side), -(-shape[1] // side)
    kept = mask_of((down, across), 0.3)
    return kept.repeat_interleave(side, 0).repeat_interleave(side, 1)[: shape[0], : shape[1]].contiguous()


FORMATS = {
    "2:4": lambda weight, shape: Nm.encode(weight, nm_mask(shape, 2, 4), 2, 4),
    "bitmask": lambda weight, shape: Bitmask.encode(weight, mask_of(shape, 0.3)),
    "index": lambda weight, shape: Index.encode(weight, mask_of(shape, 0.1)),
    "block32": lambda weight, shape: BlockRows.encode(weight, tiles(shape, 32), 32, 32),
    "block64": lambda weight, shape: BlockRows.encode(weight, tiles(shape, 64), 64, 64),
    "block128": lambda weight, shape: BlockRows.encode(weight, tiles(shape, 128), 128, 128),
}


def given(kind, shape, batch, dtype):
    """Return x, a bias, the tensors of a format with what else its operator takes, and the dense weight."""
    generator = torch.Generator().manual_seed(0)
    weight, x, bias = (torch.randn(size, generator=generator).to(dtype) for size in (
        shape, (batch, shape[1]), (shape[0],)))  # fmt: skip
    found = FORMATS[kind](weight, shape)
    form = FORMS[type(found)]
    tensors = [found.tensors[name].to(DEVICE) for name in ("values", *form.others)]
    dense, operator = found.decode().to(DEVICE), operator_of(type(found))
    return x.to(DEVICE), bias.to(DEVICE), tensors, form.numbers(found), dense, operator


def assert_close(found, expected, dtype):
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    assert found.shape == expected.shape
    assert torch.allclose(found.double(), expected, rtol=0, atol=ROUNDING[dtype] * max(scale, 1e-3))


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_way_is_the_dense_layer(kind, shape, dtype, monkeypatch):
    expected, tried = [], []

    def every(key, device, ways):
        for name, way in ways.items():
            poisoned = torch.full((1 << 20,), float("nan"), device=DEVICE)  # what is left of it outputs may get
            del poisoned
            assert_close(way(), expected[-1], dtype)
            tried.append(name)
        return way()

    monkeypatch.setattr(_on_gpu, "best", every)
    for batch in (1, 3, 8, 9, 16, 17, 33, 64, 65, 300):
        for activation in ACTIVATIONS if batch in (3, 64) else ("none",):
            x, bias, tensors, numbers, dense, operator = given(kind, shape, batch, dtype)
            for added in (bias, None):
                wide = None if added is None else added.double()
                expected.append(ACTIVATIONS[activation](F.linear(x.double(), dense.double(), wide)))
                operator(x, *tensors, added, activation, **numbers)
    sixteen = dtype != torch.float32
    assert any(name.startswith(("decode", "tiles")) for name in tried) == (sixteen or kind.startswith("block"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", FORMATS)
def test_gradients(kind, dtype):
    for shape, batch in (((200, 300), 5), ((512, 256), 200)):
        x, bias, (values, *others), numbers, dense, operator = given(kind, shape, batch, dtype)
        leaves = [leaf.requires_grad_() for leaf in (x, values, bias)]
        out = operator(x, values, *others, bias, "silu", **numbers)
        upstream = torch.randn_like(out)
        out.backward(upstream)
        wide = [leaf.detach().double().requires_grad_() for leaf in (x, dense, bias)]
        F.silu(F.linear(*wide)).backward(upstream.double())
        assert_close(leaves[0].grad, wide[0].grad, dtype)
        assert_close(leaves[2].grad, wide[2].grad, dtype)
        kept = FORMATS[kind](wide[1].grad.cpu(), shape)
        expected = kept.values
        if kind == "2:4":  # what fills a group up has a gradient, too
            columns = kept.places() + torch.arange(expected.shape[1]) // 2 * 4
            expected = wide[1].grad.cpu().gather(1, columns)
        assert_close(leaves[1].grad, expected.to(DEVICE), dtype)


def test_the_choice_is_measured_and_kept():
    x, _, tensors, numbers, _, operator = given("2:4", (512, 2048), 4, torch.bfloat16)
    with _on_gpu.tuning() as taken:
        operator(x, *tensors, **numbers)
    times = _measured.known(_measured.device_name(DEVICE))
    (key,) = times
    fastest = min(times[key], key=times[key].__getitem__)
    pays = _on_gpu.GAIN * times[key][fastest] <= times[key]["dense"]
    assert taken == [fastest if pays else "dense"]
    assert key == "nm_linear bfloat16 512x2048 2:4 batch 4"


@pytest.mark.parametrize("kind", FORMATS)
def test_weights_that_an_optimizer_changes_through_data_are_the_weights(kind, monkeypatch):
    x, _, (values, *others), numbers, _, operator = given(kind, (512, 256), 4, torch.bfloat16)
    leaf = torch.nn.Parameter(values.clone())

    def every(key, device, ways):
        return torch.stack([way().double() for way in ways.values()]).mean(0).to(x.dtype)

    monkeypatch.setattr(_on_gpu, "best", every)
    for change in (lambda: leaf.data.mul_(2), leaf.data.zero_):
        operator(x, leaf, *others, **numbers).sum().backward()
        change()
        fresh = operator(x, leaf.detach().clone(), *others, **numbers)
        assert torch.equal(operator(x, leaf, *others, **numbers), fresh)


@pytest.mark.skipif(not torch.backends.cusparselt.is_available(), reason="this torch has no cuSPARSELt")
@pytest.mark.parametrize("batch", [1, 8, 100, 4096])
def test_cusparselt_computes_the_layer_in_the_algorithm_that_it_finds(batch):
    x, bias, _, _, dense, _ = given("2:4", (512, 2048), batch, torch.bfloat16)
    compressed = torch._cslt_compress(dense)
    found, _ = _cusparselt.search(x, compressed, bias)
    expected = F.linear(x.double(), dense.double(), bias.double())
    for algorithm in (_cusparselt.Algorithm(), found):
        assert_close(_cusparselt.multiply(x, compressed, bias, algorithm), expected, torch.bfloat16)
    assert_close(_cusparselt.multiply_searched(x, compressed, bias), expected, torch.bfloat16)


@pytest.mark.parametrize("batch", [4, 100])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_layer_is_captured_in_a_graph(kind, batch):
    x, _, tensors, numbers, dense, operator = given(kind, (512, 2048), batch, torch.bfloat16)
    with _on_gpu.tuning():
        operator(x, *tensors, **numbers)
    operator(x, *tensors, **numbers)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = operator(x, *tensors, **numbers)
    x.copy_(torch.randn_like(x))
    graph.replay()
    assert_close(out, F.linear(x.double(), dense.double()), torch.bfloat16)
