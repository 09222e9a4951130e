from helpers.models import ConvNet, images

import sparsify as sp
from sparsify.observation.calibration import Calibration
from sparsify.observation.subject import Subject


def subject(*names):
    program = sp.capture(ConvNet(), (images(),))
    return Subject(program, Calibration(None), names or list(program.parameters))


def test_layers_are_those_that_read_the_parameters():
    assert [layer.parameter for layer in subject().layers] == ["conv.weight", "head.weight"]
    assert [layer.parameter for layer in subject("head.weight", "norm.bias").layers] == ["head.weight"]


def test_frozen_parameters_have_no_gradient():
    model = ConvNet()
    model.conv.weight.requires_grad_(False)
    program = sp.capture(model, (images(),))
    found = Subject(program, Calibration(None), list(program.parameters)).trainable
    assert "conv.weight" not in found
    assert "head.weight" in found


def test_only_keeps_the_rest():
    whole = subject()
    part = whole.only(["head.weight"])
    assert part.program is whole.program
    assert part.names == (("head.weight",), (), ())


def test_matrices_of_a_weight():
    found = subject()
    assert found.matrices("conv.weight") == (1, 4, 27)
    assert found.matrices("norm.weight") == (0, 0, 0)
