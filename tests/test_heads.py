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
    with pytest.raises(PassError, match=r"^layer=nothere matches no parameter"):
        head(program_of(), "nothere")
    conv = sp.capture(nn.Conv2d(3, 4, 1), (torch.randn(2, 3, 5, 5),))
    with pytest.raises(PassError, match="no linear layer of its own"):
        head(conv)


class Tied(nn.Module):
    """An embedding whose weight is that of the last layer, too."""

    def __init__(self):
        super().__init__()
        self.embedding, self.middle, self.lm_head = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7, bias=False)
        self.lm_head.weight = self.embedding.weight

    def forward(self, x):
        return self.lm_head(self.middle(self.embedding(x)).relu())


@pytest.mark.parametrize("name", ["", "lm_head"])
def test_a_head_that_is_tied_to_the_embedding_is_called_that(name):
    program = sp.capture(Tied(), (torch.zeros(2, 3, dtype=torch.long),))
    with pytest.raises(PassError, match="tied with the embedding: both read"):
        head(program, name)
