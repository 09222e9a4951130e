"""The operator that says whose value something is."""

import torch

from sparsify.kernels.parameter import parameter


def test_it_is_its_argument_and_shares_its_memory():
    value = torch.randn(3, 4, requires_grad=True)
    found = parameter(value, "layer.weight")
    assert torch.equal(found, value)
    assert found.data_ptr() == value.data_ptr()
    found.sum().backward()
    assert torch.equal(value.grad, torch.ones(3, 4))


def test_torch_accepts_the_operator():
    torch.library.opcheck(parameter, (torch.randn(3, 4, requires_grad=True), "layer.weight"))
