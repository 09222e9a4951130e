import collections
import dataclasses

import pytest
import torch
from helpers.models import Net, linear, rows
from torch.utils import _pytree as pytree

import sparsify as sp
from sparsify.export.outputs import distinct, is_tensor, output_leaves, output_names, plain_spec


@dataclasses.dataclass
class Found:
    boxes: list
    score: torch.Tensor


torch.export.register_dataclass(Found, serialized_type_name="tests.export.Found")
Pair = collections.namedtuple("Pair", "first second")


def program(pack):
    return sp.capture(Net(lambda s, x: pack(s.l(x), x * 2), **linear()), (rows(),))


@pytest.mark.parametrize(
    ("pack", "names", "plain"),
    [
        (lambda a, b: a, ["output"], "*"),
        (lambda a, b: (a, b), ["output_0", "output_1"], ("*", "*")),
        (lambda a, b: [a, (b, [b])], ["output_0", "output_1_0", "output_1_1_0"], ["*", ("*", ["*"])]),
        (lambda a, b: {"logits": a, "states": (b, b)}, ["logits", "states_0", "states_1"], None),
        (lambda a, b: {"a.b": a, "a_b": b}, ["a_b", "a_b_1"], {"a.b": "*", "a_b": "*"}),
        (lambda a, b: {"x": a}, ["x_1"], {"x": "*"}),
        (lambda a, b: {1: a}, ["output_1"], {"1": "*"}),
        (Pair, ["first", "second"], {"first": "*", "second": "*"}),
        (lambda a, b: Found([a, b], a), ["boxes_0", "boxes_1", "score"], {"boxes": ["*", "*"], "score": "*"}),
        (lambda a, b: {"loss": None, "n": 3, "logits": a}, ["logits"], {"loss": "*", "n": "*", "logits": "*"}),
    ],
)
def test_names_and_plain_structure(pack, names, plain):
    captured = program(pack)
    assert output_names(captured) == names
    spec = plain_spec(captured)
    if plain is not None:
        assert pytree.tree_unflatten(["*"] * spec.num_leaves, spec) == plain


def test_transformers_outputs():
    from transformers.modeling_outputs import BaseModelOutput

    captured = program(lambda a, b: BaseModelOutput(last_hidden_state=a, attentions=(b,)))
    assert output_names(captured) == ["last_hidden_state", "attentions_0"]
    spec = plain_spec(captured)
    assert pytree.tree_unflatten(["a", "b"], spec) == {"last_hidden_state": "a", "attentions": ("b",)}


def test_leaves():
    leaves = output_leaves(program(lambda a, b: (a, None, 3, [b])).graph)
    assert [is_tensor(leaf) for leaf in leaves] == [True, False, False, True]
    assert leaves[1:3] == [None, 3]


def test_distinct():
    assert distinct(["a", "b", "a", "a_1"], {"b"}) == ["a", "b_1", "a_1", "a_1_1"]
