from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sparsify.errors import InputError, UntrustedError
from sparsify.loading.safe_module import Inert, InertFunction, build, inert_globals

KNOWN = inert_globals()
RELU = "torch.nn.functional.relu"


def inert(module, **changes):
    """Describe a module as the unpickler would, with some of its state changed."""
    made = KNOWN[f"{type(module).__module__}.{type(module).__qualname__}"]()
    state = dict(module.__getstate__())
    state["_modules"] = {name: inert(child) for name, child in module._modules.items()}
    made.__setstate__({**state, **changes})
    return made


def test_a_module_is_rebuilt_with_its_values():
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.BatchNorm2d(4), nn.ReLU())
    again = build(inert(module))
    x = torch.randn(2, 3, 5, 5)
    assert repr(again) == repr(module)
    assert torch.equal(again(x), module(x))


def test_what_is_shared_stays_shared():
    linear = inert(nn.Linear(2, 2))
    parameter = linear.state["_parameters"]["weight"]
    tied = inert(nn.Linear(2, 2), _parameters={"weight": parameter, "bias": None})
    again = build(inert(nn.Sequential(), _modules={"a": linear, "b": linear, "c": tied}))
    assert again.a is again.b
    assert again.a.weight is again.c.weight


def test_containers_keep_their_types_and_state_dicts_their_versions():
    state = OrderedDict(a=torch.ones(1))
    state._metadata = OrderedDict({"": {"version": 2}})
    again = build({"state": state, "more": [1, (2.0, {"x"}), None, torch.float16, torch.Size([3])]})
    assert again["state"]._metadata == {"": {"version": 2}}
    assert again["more"] == [1, (2.0, {"x"}), None, torch.float16, torch.Size([3])]


def test_data_that_repeats_exponentially_is_built_once():
    tree = ["x"]
    for _ in range(200):
        tree = [tree, tree]
    assert len(build(tree)) == 2


def test_an_activation_is_a_function_again():
    layer = nn.TransformerEncoderLayer(4, 2)
    again = build(inert(layer, activation=InertFunction(RELU)))
    assert again.activation is F.relu


def hooked(key):
    return lambda: inert(nn.ReLU(), **{key: OrderedDict({0: 1})})


def cyclic():
    made = inert(nn.Sequential())
    made.state["_modules"]["0"] = made
    return made


def with_attribute():
    parameter = nn.Parameter(torch.ones(1))
    parameter.backward = 1
    return inert(nn.Linear(1, 1), _parameters={"weight": parameter, "bias": None})


def with_tensor_hook():
    tensor = torch.ones(1, requires_grad=True)
    tensor._backward_hooks = OrderedDict({0: 1})
    return {"a": tensor}


class SubTensor(torch.Tensor):
    pass


REFUSED = {
    "hooks": [hooked(key) for key in nn.Module().__dict__ if "hook" in key],
    "hides": [
        lambda: inert(nn.ReLU(), forward=1),
        lambda: inert(nn.ReLU(), __call__=1),
        lambda: inert(nn.ReLU(), _call_impl=None),
        lambda: inert(nn.ReLU(), __class__=1),
        lambda: inert(nn.ReLU(), extra_repr="x"),
        lambda: inert(nn.LSTM(1, 1), all_weights=[]),
    ],
    "is the function": [
        lambda: inert(nn.ReLU(), anything=InertFunction(RELU)),
        lambda: inert(nn.ReLU(), _compiled_call_impl=InertFunction(RELU)),
        lambda: inert(nn.TransformerEncoderLayer(4, 2), activation=[InertFunction(RELU)]),
        lambda: {"a": InertFunction(RELU)},
    ],
    "outside of the list of modules": [lambda: inert(nn.ReLU(), child=inert(nn.ReLU()))],
    "contains itself": [cyclic],
    "not a plain one": [
        lambda: inert(nn.Sequential(), _modules={'a",print())or("': inert(nn.ReLU())}),
        lambda: inert(nn.Sequential(), _modules={"a.b": inert(nn.ReLU())}),
        lambda: inert(nn.Linear(1, 1), _parameters={"weight\n": None}),
        lambda: inert(nn.Linear(1, 1), _buffers={1: None}),
    ],
    "not a name": [lambda: inert(nn.ReLU(), **{"a'b": 1})],
    "not a mapping": [lambda: inert(nn.ReLU(), _modules=[])],
    "is a Tensor": [lambda: inert(nn.Linear(1, 1), _parameters={"weight": torch.ones(1)})],
    "is a int": [lambda: inert(nn.Sequential(), _modules={"0": 1}), lambda: inert(nn.ReLU(), _buffers={"a": 1})],
    "with the attribute": [with_attribute],
    "with hooks": [with_tensor_hook],
    "SubTensor": [lambda: {"a": torch.ones(1).as_subclass(SubTensor)}],
    "builtins.type": [lambda: {"a": KNOWN["torch.nn.modules.activation.ReLU"]}],
    "collections.Counter": [lambda: {"a": __import__("collections").Counter()}],
}


@pytest.mark.parametrize(("reason", "make"), [(reason, make) for reason, makes in REFUSED.items() for make in makes])
def test_state_that_could_run_code_is_refused(reason, make):
    with pytest.raises(UntrustedError, match=reason):
        build(make())


@pytest.mark.parametrize("key", ["_parameters", "_buffers", "_modules", "training"])
def test_an_incomplete_module_is_refused(key):
    made = inert(nn.ReLU())
    del made.state[key]
    with pytest.raises(InputError, match=key):
        build(made)


def test_a_pickle_cannot_use_what_stands_for_a_class_or_function():
    stand_in = KNOWN["torch.nn.modules.linear.Linear"]
    with pytest.raises(UntrustedError, match="Linear with arguments"):
        stand_in(10**9, 10**9)
    with pytest.raises(UntrustedError, match="state of a"):
        stand_in().__setstate__([])
    with pytest.raises(UntrustedError, match="state of a"):
        inert(nn.ReLU()).__setstate__({})
    with pytest.raises(UntrustedError, match="calls the function"):
        KNOWN[RELU](1)
    with pytest.raises(AttributeError):
        stand_in().forward = 1


def test_no_lazy_module_and_no_class_of_a_user_is_known():
    assert all(issubclass(value, Inert) if isinstance(value, type) else True for value in KNOWN.values())
    assert not [name for name in KNOWN if "Lazy" in name or not name.startswith("torch.")]
