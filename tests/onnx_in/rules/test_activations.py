import numpy as np
import pytest
import torch
from helpers.onnx_files import one, rand, run

from sparsify.errors import InputError

X = ["batch", 3, 4, 5]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("Relu", {}), ("Sigmoid", {}), ("Tanh", {}), ("Softplus", {}), ("Softsign", {}), ("HardSwish", {}),
        ("LeakyRelu", {}), ("LeakyRelu", {"alpha": 0.3}), ("Elu", {"alpha": 0.7}), ("Celu", {"alpha": 0.7}),
        ("Selu", {}), ("Selu", {"alpha": 1.2, "gamma": 0.9}), ("ThresholdedRelu", {"alpha": 0.4}),
        ("HardSigmoid", {}), ("HardSigmoid", {"alpha": 1 / 6}), ("Shrink", {"lambd": 0.3, "bias": 0.1}),
    ],
)  # fmt: skip
def test_activations(operator, attributes, path):
    run(operator, [X], path, **attributes)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate, path):
    run("Gelu", [X], path, opset=20, approximate=approximate)


def test_mish(path):
    run("Mish", [X], path, opset=18)


@pytest.mark.parametrize("shape", [(3, 1, 1), (1,), (1, 1, 1), (4, 5), (3, 4, 5)])
def test_slopes_are_trained(shape, path):
    assert len(one("PRelu", [X, rand(*shape)], path).parameters) == 1


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [1, 2, -1, None])
@pytest.mark.parametrize("opset", [11, 13])
def test_softmax_is_over_all_dimensions_behind_before_version_13(operator, axis, opset, path):
    attributes = {} if axis is None else {"axis": axis}
    found = one(operator, [X], path, opset=opset, **attributes)
    sums = found.module()(torch.randn(2, 3, 4, 5)).exp().sum() if operator == "LogSoftmax" else None
    if sums is not None and axis != -1:
        per = {1: 20, 2: 30, None: 24}[axis] if opset == 13 else {1: 2, 2: 6, None: 2}[axis]
        per = 2 * per if opset == 13 and axis == 1 else per
        assert float(sums) == pytest.approx(
            {13: {1: 40, 2: 30, None: 24}, 11: {1: 2, 2: 6, None: 2}}[opset][axis], 1e-4
        )


def test_hardmax(path):
    run("Hardmax", [X], path, axis=1)


@pytest.mark.parametrize("opset", [11, 13])
def test_dropout_drops_only_in_training(opset, path):
    more, attributes = ([np.array(0.5, np.float32)], {}) if opset == 13 else ([], {"ratio": 0.5})
    module = one("Dropout", [X, *more], path, opset=opset, **attributes).module()
    values = torch.ones(2, 3, 4, 5)
    assert torch.equal(module(values), values)
    assert set(module.train()(values).unique().tolist()) == {0.0, 2.0}


def test_the_mask_of_a_dropout_is_refused(path):
    with pytest.raises(InputError, match="output 'out1' is read"):
        run("Dropout", [X], path, outputs=2)
