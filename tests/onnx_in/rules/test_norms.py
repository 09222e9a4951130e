import numpy as np
import pytest
import torch
from helpers.onnx_files import one, rand, run

from sparsify.errors import InputError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def stats(channels):
    return [rand(channels, seed=i) if i < 3 else np.abs(rand(channels)) + 0.5 for i in range(4)]


@pytest.mark.parametrize("opset", [11, 15])
@pytest.mark.parametrize("space", [[], [5], [4, 5]])
def test_batch_norm_is_trained_and_renews_its_statistics(opset, space, path):
    found = one("BatchNormalization", [["batch", 3, *space], *stats(3)], path, opset=opset, epsilon=1e-3, momentum=0.8)
    assert (list(found.parameters), list(found.buffers)) == (["in1", "in2"], ["in3", "in4"])
    module = found.module(training=True)
    before = module.in3.clone()
    x = torch.randn(6, 3, *space) + 5
    dims = [0, *range(2, x.ndim)]
    normal = module(x)
    assert torch.allclose(module.in3, 0.8 * before + 0.2 * x.mean(dims), atol=1e-6)
    assert torch.allclose(normal.mean(dims), module.in2, atol=1e-5)  # its own mean is taken off
    assert torch.equal(found.buffers["in3"], before)


def test_a_batch_norm_in_training_mode_is_refused(path):
    with pytest.raises(InputError, match="training mode"):
        run("BatchNormalization", [["batch", 3, 5], *stats(3)], path, opset=15, training_mode=1)


@pytest.mark.parametrize("axis", [-1, 1, 2])
@pytest.mark.parametrize("shifted", [True, False])
def test_layer_norm(axis, shifted, path):
    shape = (3, 4)[axis - 1 :] if axis > 0 else (4,)
    found = one("LayerNormalization", [["batch", 3, 4], *[rand(*shape)] * (1 + shifted)], path, axis=axis)
    assert len(found.parameters) == 1 + shifted


def test_layer_norm_with_a_scale_that_is_stretched(path):
    run("LayerNormalization", [["batch", 3, 4], rand(1, 4), rand(3, 1)], path, axis=1)


def test_rms_norm(path):
    run("RMSNormalization", [["batch", 3, 4], rand(4)], path, opset=23)


def test_instance_norm(path):
    run("InstanceNormalization", [["batch", 3, 4, 5], rand(3), rand(3)], path)


@pytest.mark.parametrize(("opset", "values"), [(18, 2), (21, 6)])
def test_group_norm_has_values_for_groups_or_channels(opset, values, path):
    run("GroupNormalization", [["batch", 6, 4, 5], rand(values), rand(values)], path, opset=opset, num_groups=2)


@pytest.mark.parametrize("p", [1, 2])
def test_lp_normalization(p, path):
    run("LpNormalization", [["batch", 3, 4]], path, p=p, axis=1)


def test_mean_variance_normalization(path):
    run("MeanVarianceNormalization", [["batch", 3, 4, 5]], path)


def test_local_response_norm(path):
    run("LRN", [["batch", 7, 4, 5]], path, size=3, alpha=0.1, beta=0.6, bias=1.5)
