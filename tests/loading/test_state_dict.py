import pytest
import torch
from torch import nn

from sparsify.errors import InputError, UsageError
from sparsify.loading.state_dict import fill, unwrap

STATE = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}


@pytest.fixture
def factory(tmp_path):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "def linear(): return nn.Linear(3, 2)\n"
        "def wrapped(): return nn.DataParallel(nn.Linear(3, 2))\n"
        "def text(): return 'x'\n"
        "def broken(): raise ValueError('no')\n"
        "ready = nn.Linear(3, 2)\n"
    )
    return lambda name: f"{tmp_path / 'nets.py'}:{name}"


@pytest.mark.parametrize(
    "tree",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3, "best": 0.5},
        {"model": STATE, "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": []}},
    ],
)
def test_the_state_dict_of_a_checkpoint_is_found(tree):
    assert unwrap(tree, "a.pt") is STATE


def test_the_module_of_a_checkpoint_is_found():
    module = nn.ReLU()
    assert unwrap(module, "a.pt") is module
    assert unwrap({"model": module, "epoch": 1}, "a.pt") is module


@pytest.mark.parametrize(
    ("tree", "match"),
    [
        ({"model": STATE, "ema": STATE}, "several models, under the keys model, ema"),
        ({"epoch": 1, "lr": 0.1}, "its keys are epoch, lr"),
        ({}, "without a module"),
        (torch.ones(1), "holds a Tensor"),
        ([STATE], "holds a list"),
        (None, "holds a NoneType"),
        ({1: torch.ones(1)}, "without a module"),
    ],
)
def test_without_one_model_there_is_an_error(tree, match):
    with pytest.raises(InputError, match=f"^a.pt .*{match}"):
        unwrap(tree, "a.pt")


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("name", ["linear", "ready"])
def test_a_module_is_made_and_filled(factory, prefix, name):
    module = fill({prefix + key: value for key, value in STATE.items()}, factory(name), "a.pt")
    assert torch.equal(module.weight, STATE["weight"])


def test_a_prefix_that_the_module_has_itself_stays(factory):
    module = fill({f"module.{key}": value for key, value in STATE.items()}, factory("wrapped"), "a.pt")
    assert torch.equal(module.module.weight, STATE["weight"])


def test_every_difference_is_named(factory):
    state = {"weight": torch.ones(5, 3), "gamma": torch.ones(1)}
    with pytest.raises(InputError) as caught:
        fill(state, factory("linear"), "a.pt")
    message = str(caught.value)
    assert message.startswith("a.pt does not fit the module")
    assert "1 missing in the file: bias" in message
    assert "1 unknown to the module: gamma" in message
    assert "1 of another shape: weight (5x3 in the file, 2x3 in the module)" in message


def test_many_differences_are_counted(factory):
    with pytest.raises(InputError, match="9 unknown to the module: x0, x1, x2, x3 and 5 more"):
        fill({**STATE, **{f"x{i}": torch.ones(1) for i in range(9)}}, factory("linear"), "a.pt")


def test_without_a_factory_the_error_says_how_to_give_one():
    with pytest.raises(InputError, match=r"a\.pt is a state dict.*--model package\.module:factory"):
        fill(STATE, None, "a.pt")


@pytest.mark.parametrize(
    ("name", "error", "match"),
    [
        ("text", InputError, "made a str"),
        ("broken", UsageError, "ValueError: no"),
        ("linaer", UsageError, "did you mean 'linear'"),
    ],
)
def test_a_wrong_factory_is_an_error(factory, name, error, match):
    with pytest.raises(error, match=match):
        fill(STATE, factory(name), "a.pt")
