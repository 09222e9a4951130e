"""Candidates: what may be pruned weight by weight, what stays, and why."""

import functools

import pytest
import torch
from helpers.models import Net
from helpers.zoo import FAMILIES
from torch import nn

import sparsify as sp
from sparsify.errors import PassError
from sparsify.pruning.candidates import candidates


class Conv(nn.Module):
    """A stem, a block of its own, and two classifiers beside each other."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 1))
        self.left, self.right = nn.Linear(6, 2), nn.Linear(6, 3)

    def forward(self, x):
        x = self.body(self.norm(self.stem(x)).relu()).mean((2, 3))
        return self.left(x), self.right(x)


class Patches(nn.Module):
    """A small transformer of images: patches, a token and positions that are learned, and a head."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 2, stride=2)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.positions = nn.Parameter(torch.randn(1, 5, 8))
        self.norm, self.up, self.down, self.head = nn.LayerNorm(8), nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head((x + self.down(self.up(self.norm(x)).relu()))[:, 0])


class Text(nn.Module):
    """Words, a layer, and an output layer that shares the words."""

    def __init__(self, tied=True):
        super().__init__()
        self.words = nn.Embedding(11, 4)
        self.layer = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.out = nn.Linear(4, 11, bias=False)
        if tied:
            self.out.weight = self.words.weight

    def forward(self, ids):
        return self.out(self.norm(self.layer(self.words(ids)).relu()))


@functools.cache
def program_of(kind, **options):
    inputs = {Conv: torch.randn(2, 3, 5, 5), Patches: torch.randn(2, 3, 4, 4), Text: torch.randint(0, 11, (2, 3))}
    return sp.capture(kind(**options).eval(), (inputs[kind],))


@functools.cache
def family(name):
    model, args, kwargs = FAMILIES[name]()
    return sp.capture(model, args, kwargs)


def names(program, **options):
    return set(candidates(program, **options).layouts)


def reasons(program, **options):
    return dict(candidates(program, **options).skipped)


CONV = {"stem.weight", "body.0.weight", "body.2.weight", "left.weight", "right.weight"}


def test_norms_and_biases_stay():
    assert names(program_of(Conv)) == CONV
    assert reasons(program_of(Conv)) == {}


def test_an_embedding_stays_and_so_does_the_output_layer_that_shares_it():
    assert names(program_of(Text)) == {"layer.weight"}
    assert reasons(program_of(Text)) == {"words.weight": "it is an embedding"}
    assert names(program_of(Text, tied=False)) == {"layer.weight", "out.weight"}


def test_parameters_that_no_layer_reads_stay():
    assert names(program_of(Patches)) == {"patch.weight", "up.weight", "down.weight", "head.weight"}
    reason = "no linear layer or convolution reads it"
    assert reasons(program_of(Patches)) == {"token": reason, "positions": reason}


def test_other_parameters_are_included_by_name_module_or_pattern():
    assert names(program_of(Text), include=["words"]) == {"layer.weight", "words.weight"}
    assert "norm.weight" in names(program_of(Text), include=["norm"])
    assert "norm.bias" in names(program_of(Text), include=["norm"])
    assert names(program_of(Conv), include=["*.bias"]) - CONV == {
        "stem.bias", "norm.bias", "body.0.bias", "body.2.bias", "left.bias", "right.bias"}  # fmt: skip
    found = candidates(program_of(Patches), include=["positions"])
    assert found.layouts["positions"].outputs == (0,)
    assert set(found.skipped) == {"token"}


def test_an_included_layer_is_read_as_the_layer_reads_it():
    before, after = (candidates(family("gpt2"), **more).layouts for more in ({}, {"include": ["transformer.h"]}))
    name = "transformer.h.0.mlp.c_fc.weight"
    assert before[name] == after[name]
    assert (before[name].outputs, before[name].inputs) == ((1,), (0,))


@pytest.mark.parametrize(
    ("pattern", "gone"),
    [
        ("body", {"body.0.weight", "body.2.weight"}),  # a module
        ("body.0", {"body.0.weight"}),
        ("body.0.weight", {"body.0.weight"}),  # a parameter
        ("body.*", {"body.0.weight", "body.2.weight"}),  # a pattern
        ("*t", CONV),  # every weight, and a module too
        ("?ight", {"right.weight"}),
        ("norm", set()),  # what stays anyway
    ],
)
def test_what_is_protected_stays_and_only_says_the_opposite(pattern, gone):
    rest = CONV - gone
    if rest:
        assert names(program_of(Conv), protect=[pattern]) == rest
        assert reasons(program_of(Conv), protect=[pattern]) == dict.fromkeys(gone, "it is protected")
    if gone:
        assert names(program_of(Conv), only=[pattern]) == gone
        assert reasons(program_of(Conv), only=[pattern]) == dict.fromkeys(rest, "it is not among only=")


def test_the_beginning_of_a_name_is_no_module():
    with pytest.raises(PassError, match="protect=bod matches no parameter"):
        candidates(program_of(Conv), protect=["bod"])


def test_protect_is_stronger_than_only_and_include():
    found = candidates(program_of(Text), protect=["words"], include=["words"])
    assert found.skipped == {"words.weight": "it is protected"}
    found = candidates(program_of(Conv), only=["body", "left"], protect=["body.2"])
    assert set(found.layouts) == {"body.0.weight", "left.weight"}
    assert found.skipped["body.2.weight"] == "it is protected"


@pytest.mark.parametrize("option", ["protect", "only", "include"])
def test_a_name_that_matches_nothing_gets_the_nearest(option):
    with pytest.raises(PassError, match=rf"{option}=lefft matches no parameter \(did you mean 'left'"):
        candidates(program_of(Conv), **{option: ["lefft"]})
    with pytest.raises(PassError, match=rf"{option}=body\.2\.wight matches no parameter .*'body\.2\.weight'"):
        candidates(program_of(Conv), **{option: ["body.2.wight"]})
    with pytest.raises(PassError, match=rf"{option}=zzz matches no parameter\."):
        candidates(program_of(Conv), **{option: ["left", "zzz"]})


def test_first_and_last_layers_of_a_convolutional_network():
    found = candidates(program_of(Conv), first="dense", last="dense")
    assert set(found.layouts) == {"body.0.weight", "body.2.weight"}
    assert found.skipped == {
        "stem.weight": "it is a first layer", "left.weight": "it is a last layer", "right.weight": "it is a last layer",
    }  # fmt: skip


def test_first_and_last_layers_of_a_transformer_of_images():
    for program, first, last in (
        (program_of(Patches), "patch.weight", "head.weight"),
        (family("vit"), "vit.embeddings.patch_embeddings.projection.weight", "classifier.weight"),
    ):
        everything = names(program)
        assert everything - names(program, first="dense") == {first}
        assert everything - names(program, last="dense") == {last}


def test_behind_an_embedding_there_is_no_first_layer():
    everything = names(family("gpt2"))
    assert len(everything) == 8  # 4 in each of two blocks; the output layer is the embedding
    assert names(family("gpt2"), first="dense", last="dense") == everything
    assert names(program_of(Text), first="dense") == {"layer.weight"}
    assert names(program_of(Text, tied=False), last="dense") == {"layer.weight"}


def test_a_layer_before_a_tied_output_layer_is_no_last_layer():
    assert names(program_of(Text), last="dense") == {"layer.weight"}
    assert candidates(program_of(Text)).last == frozenset()


def test_last_layers_that_are_halved_are_known_and_stay():
    found = candidates(program_of(Conv), last="half")
    assert found.last == {"left.weight", "right.weight"}
    assert set(found.layouts) == CONV


def test_a_masked_layer_is_still_a_first_one():
    program = sp.run(program_of(Conv), ["weight-prune:sparsity=0.5"]).program
    found = candidates(program, first="dense", last="dense")
    assert set(found.layouts) == {"body.0.weight", "body.2.weight"}


def test_a_weight_that_is_used_twice_is_first_if_either_use_is():
    model = Net(lambda self, x: self.b(self.a(self.a(x).relu())), a=nn.Linear(4, 4), b=nn.Linear(4, 2))
    program = sp.capture(model, (torch.randn(2, 4),))
    assert reasons(program, first="dense") == {"a.weight": "it is a first layer"}
    assert reasons(program, last="dense") == {"b.weight": "it is a last layer"}


def test_recurrent_weights_are_candidates():
    model = Net(lambda self, x: self.head(self.rnn(x)[0]), rnn=nn.LSTM(3, 4), head=nn.Linear(4, 2))
    found = names(sp.capture(model, (torch.randn(5, 2, 3),), dynamic_batch=False))
    assert found == {"rnn.weight_ih_l0", "rnn.weight_hh_l0", "head.weight"}


def test_nothing_to_prune_is_refused_with_the_reasons():
    norm = Net(lambda self, x: self.norm(x), norm=nn.LayerNorm(4))
    with pytest.raises(PassError, match=r"The model has no weight to prune\.$"):
        candidates(sp.capture(norm, (torch.randn(2, 4),)))
    with pytest.raises(PassError, match=r"no weight to prune \(words\.weight: it is an embedding; layer\.weight: "
                                        r"it is protected\)"):  # fmt: skip
        candidates(program_of(Text), protect=["layer"])
    assert names(sp.capture(norm, (torch.randn(2, 4),)), include=["norm.weight"]) == {"norm.weight"}


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Linear(8, 12)

    def forward(self, x):
        return self.e(x).relu() @ self.e.weight


def test_a_weight_that_is_read_in_two_directions():
    program = sp.capture(Autoencoder(), (torch.randn(4, 8),))
    assert candidates(program).several == {"e.weight"}
    assert sp.run(program, ["weight-prune:sparsity=0.5,criterion=wanda"]).report["passes"][0]["pruned"] == 48
    with pytest.raises(PassError, match=r"of e\.weight, layers read it in two directions"):
        sp.run(program, ["weight-prune:pattern=2:4"])
