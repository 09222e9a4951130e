from types import SimpleNamespace

import pytest
import torch

from sparsify.data.logits import logits_of
from sparsify.errors import UsageError

LOGITS = torch.arange(6.0).view(2, 3)


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        (LOGITS, None),
        [LOGITS],
        {"loss": torch.tensor(1.0), "logits": LOGITS},
        SimpleNamespace(logits=LOGITS),
        (SimpleNamespace(logits=LOGITS),),
    ],
    ids=["tensor", "tuple", "list", "mapping", "attribute", "attribute in a tuple"],
)
def test_what_a_model_may_return(output):
    assert logits_of(output, "batch, classes") is LOGITS


@pytest.mark.parametrize(
    ("output", "what"),
    [(LOGITS[0], r"\[3\]"), ((), "NoneType"), ({"scores": LOGITS}, "dict"), (3, "int"), (None, "NoneType")],
)
def test_what_are_no_logits(output, what):
    with pytest.raises(UsageError, match=rf"must return logits \[batch, classes\].* returned {what}"):
        logits_of(output, "batch, classes")


def test_the_number_of_dimensions():
    with pytest.raises(UsageError, match=r"\[batch, tokens, vocabulary\].*returned \[2, 3\]"):
        logits_of(LOGITS, "batch, tokens, vocabulary")
