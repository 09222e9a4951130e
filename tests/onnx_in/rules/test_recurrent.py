import numpy as np
import pytest
import torch
from helpers.onnx_files import imported, model_of, rand
from onnx import helper

from sparsify.errors import InputError

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def recurrent(operator, path, *, direction="forward", bias=True, states=True, outputs=None, **attributes):
    directions, hidden, gates = 2 if direction == "bidirectional" else 1, 5, GATES[operator]
    constants = {"W": rand(directions, gates * hidden, 3), "R": rand(directions, gates * hidden, hidden)}
    if bias:
        constants["B"] = rand(directions, 2 * gates * hidden)
    inputs = {"x": (1, [7, "batch", 3])}
    given = ["x", "W", "R", "B" if bias else ""]
    if states:
        constants["zero"], constants["one"] = rand(directions, 2, hidden), rand(directions, 2, hidden, seed=1)
        inputs["x"] = (1, [7, 2, 3])
        given += ["", "zero", *["one"] * (operator == "LSTM")]
    names = outputs or ["y", "h", *["c"] * (operator == "LSTM")]
    if operator == "GRU":
        attributes.setdefault("linear_before_reset", 1)
    node = helper.make_node(
        operator, given, names, name="/encoder/rnn/Cell", hidden_size=hidden, direction=direction, **attributes
    )
    return imported(model_of([node], inputs, [name for name in names if name], constants), path, "7x2x3")


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer(operator, direction, bias, path):
    found = recurrent(operator, path, direction=direction, bias=bias)
    assert tuple(found.parameters["encoder.rnn.weight_ih_l0"].shape) == (5 * GATES[operator], 3)


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
def test_without_states_they_are_zero_for_any_batch(operator, path):
    found = recurrent(operator, path, states=False, outputs=["y"])
    assert found.module()(torch.ones(7, 9, 3)).shape == (7, 1, 9, 5)


def test_relu_for_tanh(path):
    assert "rnn_relu" in str(recurrent("RNN", path, activations=["Relu"]))


@pytest.mark.parametrize(
    ("operator", "attributes", "reason"),
    [("GRU", {"linear_before_reset": 0}, "resets before"), ("LSTM", {"clip": 1.0}, "clip"),
     ("LSTM", {"activations": ["Relu", "Tanh", "Tanh"]}, "activations Relu")],
)  # fmt: skip
def test_what_torch_does_not_have_is_refused(operator, attributes, reason, path):
    with pytest.raises(InputError, match=reason):
        recurrent(operator, path, **attributes)


def test_gates_are_in_the_order_of_torch(path):
    found = recurrent("LSTM", path)
    stored = rand(1, 20, 3)[0]
    expected = np.concatenate([stored[0:5], stored[10:15], stored[15:20], stored[5:10]])
    assert np.array_equal(found.parameters["encoder.rnn.weight_ih_l0"].detach().numpy(), expected)
