import contextlib
import copy

import pytest
import torch
import torch.nn.functional as F
from helpers.models import ConvNet, Net, equal_leaves, images, linear, rows, run, state, train, trains_like
from torch import nn

import sparsify as sp
from sparsify.evaluation.memory import peak_bytes
from sparsify.modes import in_mode


def timm_drop_path(x, keep):
    noise = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
    if keep > 0.0:
        noise.div_(keep)
    return x * noise


def torchvision_stochastic_depth(x, keep):
    noise = torch.empty([x.shape[0]] + [1] * (x.ndim - 1), dtype=x.dtype, device=x.device)
    noise = noise.bernoulli_(keep)
    if keep > 0.0:
        noise.div_(keep)
    return x * noise


def transformers_drop_path(x, keep):
    noise = keep + torch.rand((x.shape[0],) + (1,) * (x.ndim - 1), dtype=x.dtype, device=x.device)
    noise.floor_()
    return x.div(keep) * noise


def stochastic(drop):
    return Net(lambda s, x: x + (drop(s.l(x), 0.5) if s.training else s.l(x)), **linear())


def attention(self, x):
    q, k, v = self.l(x).view(x.shape[0], 2, 2, 4).repeat(1, 1, 1, 3).chunk(3, -1)
    return F.scaled_dot_product_attention(q, k, v, dropout_p=0.5 if self.training else 0.0)


CASES = {
    "conv, batch norm, dropout": (ConvNet(), images(4)),
    "timm": (stochastic(timm_drop_path), rows(8)),
    "torchvision": (stochastic(torchvision_stochastic_depth), rows(8)),
    "transformers": (stochastic(transformers_drop_path), rows(8)),
    "gaussian noise": (
        Net(lambda s, x: s.l(x + torch.randn_like(x) * 0.1 if s.training else x), **linear()),
        rows(),
    ),
    "attention dropout": (Net(attention, l=nn.Linear(4, 16)), rows(2)[:, None, :].squeeze(1)),
    "multi-head attention": (
        Net(lambda s, x: s.l(x, x, x)[0], l=nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True)),
        torch.randn(2, 3, 4),
    ),
    "lstm": (Net(lambda s, x: s.l(x)[0], l=nn.LSTM(4, 5, 2, dropout=0.5, batch_first=True)), torch.randn(2, 3, 4)),
    "instance norm": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=True, track_running_stats=True)),
        images(),
    ),
    "batch norm without statistics": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        images(),
    ),
    "alpha and feature dropout": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.AlphaDropout(), nn.Dropout2d()), images()),
    "random leaky relu": (nn.Sequential(nn.Linear(4, 4), nn.RReLU()), rows()),
}


@pytest.mark.parametrize("name", CASES)
def test_training_and_evaluation_are_those_of_the_eager_module(name):
    model, x = CASES[name]
    program = sp.capture(model, (x,))
    assert program.notes == ()
    assert trains_like(program, model, [x])


def test_switching_back_and_forth():
    model, x = ConvNet(), images(4)
    module = sp.capture(model, (x,)).module()
    eager = copy.deepcopy(model)
    for training in (True, False, False, True, True, False):
        module.train(training)
        eager.train(training)
        assert module.training is training
        assert equal_leaves(run(module, [x]), run(eager, [x]))
    assert module.get_buffer("norm.num_batches_tracked") == 3


def test_a_module_does_not_share_its_tensors_unless_told():
    program = sp.capture(ConvNet(), (images(),))
    before = {name: value.clone() for name, value in (*program.parameters.items(), *program.buffers.items())}
    one, other = program.module(training=True), program.module(training=True)
    train(one, [images()])
    assert all(torch.equal(value, before[name]) for name, value in state(other).items())
    assert all(torch.equal(value, before[name]) for name, value in {**program.parameters, **program.buffers}.items())
    shared = program.module(copy=False)
    assert shared.get_parameter("conv.weight") is program.parameters["conv.weight"]


def test_a_shared_module_never_writes_into_the_program():
    model = Net(lambda s, x: s.l(x) + s.l.calls.add_(1), **linear())
    model.l.register_buffer("calls", torch.zeros(()))
    program = sp.capture(model, (rows(),))
    program.module(copy=False)(rows())
    assert program.buffers["l.calls"] == 0
    assert model.l.calls == 0


def test_a_deep_copy_is_independent_and_keeps_the_mode():
    module = sp.capture(ConvNet(), (images(),)).module(training=True)
    twin = copy.deepcopy(module)
    before = {name: value.clone() for name, value in state(module).items()}
    train(twin, [images()])
    assert twin.training
    assert all(torch.equal(value, before[name]) for name, value in state(module).items())
    assert equal_leaves(run(copy.deepcopy(twin).eval(), [images()]), run(twin.eval(), [images()]))


def test_frozen_parameters_stay_frozen():
    model = ConvNet()
    model.conv.requires_grad_(False)
    module = sp.capture(model, (images(),)).module(training=True)
    assert [name for name, p in module.named_parameters() if not p.requires_grad] == ["conv.weight", "conv.bias"]


def test_a_constant_factor_is_not_taken_for_noise():
    program = sp.capture(Net(lambda s, x: s.l(x) * torch.ones(4) * 2 + torch.zeros_like(x), **linear()), (rows(),))
    assert str(program).count("mul.Tensor") == 2
    assert program.notes == ()


@pytest.mark.parametrize(
    "model",
    [
        Net(lambda s, x: s.l(x)[0] * s.p, l=nn.GRU(4, 5, batch_first=True), p=nn.Parameter(torch.rand(5))),
        Net(lambda s, x: F.dropout(s.l(x).chunk(2, -1)[0], 0.5, s.training) * x, l=nn.Linear(4, 8)),
    ],
    ids=["recurrent layer", "dropout of a part"],
)
def test_what_depends_on_several_results_is_not_taken_for_noise(model):
    program = sp.capture(model.eval(), (torch.randn(2, 3, 4),))
    assert program.notes == ()


def test_a_model_is_lent_a_mode_and_gets_its_own_back():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2)))
    model[1].eval()
    for training in (True, False):
        with contextlib.suppress(KeyError), in_mode(model, training):
            assert all(module.training is training for module in model.modules())
            raise KeyError
        assert [module.training for module in model.modules()] == [True, True, False, False]


def test_a_module_that_is_made_in_inference_mode_has_tensors_that_tell_of_changes():
    program = sp.capture(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval(), (torch.randn(2, 4),))
    with torch.inference_mode():
        module = program.module()
        copied = copy.deepcopy(module)
        for made in (module, copied):
            tensors = [*made.parameters(), *made.buffers()]
            before = [value._version for value in tensors]
            for value in tensors:
                value.zero_()
            assert all(value._version > version for value, version in zip(tensors, before, strict=True))


def test_masked_weights_are_made_one_at_a_time():
    model = nn.Sequential(*[nn.Linear(32, 32) for _ in range(6)])
    program = sp.run(sp.capture(model, (torch.randn(2, 32),)), ["weight-prune:sparsity=0.5"]).program
    weight, row = 32 * 32 * 4, 2 * 32 * 4
    assert weight < peak_bytes(program) <= weight + 3 * row
