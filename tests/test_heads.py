"""The last layer of a network."""

import pytest
import torch
from helpers.sparse import program_of
from torch import nn

import sparsify as sp
from sparsify.errors import PassError
from sparsify.heads import head


def test_it_is_found():
    assert head(program_of()).parameter == "4.weight"
    assert head(program_of()).bias == "4.bias"
    assert head(program_of(), "4").parameter == "4.weight"


def test_what_is_none_is_refused():
    with pytest.raises(PassError, match=r"One last layer called 0 is needed, .* there is none"):
        head(program_of(), "0")
    conv = sp.capture(nn.Conv2d(3, 4, 1), (torch.randn(2, 3, 5, 5),))
    with pytest.raises(PassError, match="no linear layer of its own"):
        head(conv)
