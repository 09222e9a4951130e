"""Moments: means over everything that a layer reads, of the pruned model and of the whole one on the same data."""

import weakref

import pytest
import torch
from helpers.given import parts
from helpers.models import Net
from helpers.regression import Regression
from helpers.zoo import FAMILIES
from torch import nn
from torch.nn import functional as F

import sparsify as sp
from sparsify.errors import PassError
from sparsify.masking import baked, masked
from sparsify.observation.calibration import Calibration
from sparsify.reconstruction.moments import InTurn, moments, waves

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # sums of some hundred float32 products in another order


def program_of(model, x):
    return sp.capture(model.eval(), (x,))


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))


def without(program, name, share=0.5):
    """Mask a random part of a weight."""
    generator = torch.Generator().manual_seed(3)
    weight = program.parameters[name]
    return masked(program, {name: torch.rand(weight.shape, generator=generator) >= share})


def inputs_of(program, x):
    """Return what the last layer gets, by a hook on the eager network with the program's weights, masked ones zero."""
    model, seen = mlp(), []
    model.load_state_dict(baked(program).module().state_dict())
    model[2].register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    model(x)
    return seen[0]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_moments_are_those_of_the_inputs_before_and_after_pruning(count):
    x = torch.randn(12, 5, generator=torch.Generator().manual_seed(1))
    whole = program_of(mlp(), x)
    pruned = without(whole, "0.weight")
    (found,) = moments(pruned, whole, ["2.weight"], Calibration(parts(x, count=count)[0])).values()
    z, now = inputs_of(whole, x), inputs_of(pruned, x)
    assert not torch.allclose(z, now)
    torch.testing.assert_close(found.gram, (now.T @ now / 12)[None], **CLOSE)
    torch.testing.assert_close(found.cross, (z.T @ now / 12)[None], **CLOSE)
    torch.testing.assert_close(found.mean, now.mean(0)[None], **CLOSE)
    torch.testing.assert_close(found.before, z.mean(0)[None], **CLOSE)


def test_batches_of_different_size_count_by_their_rows():
    x = torch.randn(9, 5)
    whole = program_of(mlp(), x)
    uneven, even = parts(x[:8], count=2)
    uneven.given = [(x[:2], torch.zeros(2, dtype=torch.long)), (x[2:8], torch.zeros(6, dtype=torch.long))]
    one, other = (moments(whole, None, ["2.weight"], Calibration(task))["2.weight"] for task in (uneven, even))
    torch.testing.assert_close(one.gram, other.gram, **CLOSE)


def test_without_a_partner_the_inputs_are_compared_with_themselves():
    x = torch.randn(6, 5)
    found = moments(program_of(mlp(), x), None, ["0.weight", "2.weight"], Calibration(None))
    assert list(found) == ["0.weight", "2.weight"]
    for item in found.values():
        assert torch.equal(item.gram, item.cross)
        assert torch.equal(item.mean, item.before)
    torch.testing.assert_close(found["0.weight"].gram[0], x.T @ x / 6, **CLOSE)


@pytest.mark.parametrize("mean", [2.0, 1000.0])
@pytest.mark.parametrize("count", [1, 4])
def test_centred_moments_are_covariances(mean, count):
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(1)) + mean
    whole = program_of(mlp(), x)
    pruned = without(whole, "0.weight")
    task = Calibration(parts(x, count=count)[0])
    found = moments(pruned, whole, ["2.weight"], task, centred=["2.weight"])["2.weight"]
    z, now = inputs_of(whole, x).double(), inputs_of(pruned, x).double()
    together = torch.cov(torch.cat([z, now], 1).T, correction=0).float()
    torch.testing.assert_close(found.gram[0], together[7:, 7:], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.cross[0], together[:7, 7:], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.mean[0], now.mean(0).float(), **CLOSE)
    torch.testing.assert_close(found.before[0], z.mean(0).float(), **CLOSE)


def test_a_weight_that_is_read_twice_has_the_moments_of_both_inputs():
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    x = torch.randn(6, 4)
    program = program_of(Net(lambda s, x: s.l(torch.tanh(s.l(x))), l=layer), x)
    found = moments(program, None, ["l.weight"], Calibration(None))["l.weight"]
    both = torch.cat([x, torch.tanh(layer(x))]).detach()
    torch.testing.assert_close(found.gram[0], both.T @ both / 12, **CLOSE)
    torch.testing.assert_close(found.mean[0], both.mean(0), **CLOSE)


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"groups": 2}])
def test_convolutions_see_patches(options):
    torch.manual_seed(0)
    x = torch.randn(3, 4, 7, 6)
    groups = options.get("groups", 1)
    program = program_of(nn.Sequential(nn.Conv2d(4, 6, 3, **options)), x)
    found = moments(program, None, ["0.weight"], Calibration(None))["0.weight"]
    for part, gram in zip(x.chunk(groups, 1), found.gram, strict=True):
        options.pop("groups", None)
        rows = F.unfold(part, 3, **options).transpose(1, 2).reshape(-1, 9 * 4 // groups)
        torch.testing.assert_close(gram, rows.T @ rows / len(rows), **CLOSE)


def test_experts_have_moments_of_their_own_tokens():
    model, args, kwargs = FAMILIES["mixtral"]()
    program = sp.capture(model, args, kwargs)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    found = moments(program, program, [name], Calibration(None))[name]
    assert found.gram.shape == (4, 48, 48)
    assert torch.equal(found.gram, found.cross)
    seen = []
    layer = model.model.layers[0].mlp
    layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().reshape(-1, 48)))
    model(**kwargs)
    chosen = (seen[0] @ layer.gate.weight.T).topk(2).indices
    for expert in range(4):
        mine = seen[0][(chosen == expert).any(1)]
        torch.testing.assert_close(found.gram[expert], mine.T @ mine / max(1, len(mine)), **CLOSE)


class Watched(Regression):
    """Counts how many of its batches are alive at once."""

    def batches(self, split, *, seed=0):
        self.alive, self.most = set(), 0
        for x, y in super().batches(split, seed=seed):
            key = id(x)
            self.alive.add(key)
            weakref.finalize(x, self.alive.discard, key)
            self.most = max(self.most, len(self.alive))
            yield x, y


def test_batches_are_not_kept():
    program = program_of(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(2, 3))
    task = Watched(count=9)
    moments(without(program, "0.weight"), program, ["0.weight", "2.weight"], Calibration(task, batches=9))
    assert task.asked == 9
    assert task.most <= 3  # the one in use, the one before it until its name is bound again, and the generator's


def test_inputs_that_are_not_finite_are_refused_by_the_name_of_the_layer():
    program = program_of(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(2, 3))
    with pytest.raises(PassError, match=r"The inputs of 0\.weight are not finite"):
        moments(program, None, ["0.weight"], Calibration(Regression(poison=True)))


def test_layers_with_one_input_are_fitted_together():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.o = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.o(torch.softmax(self.q(x) @ self.k(x).mT, -1) @ x)

    program = program_of(Attention(), torch.randn(2, 3, 4))
    assert list(waves(program, ["o.weight", "k.weight", "q.weight"])) == [["q.weight", "k.weight"], ["o.weight"]]
    assert list(waves(program, ["k.weight", "o.weight"])) == [["k.weight"], ["o.weight"]]
    assert list(waves(program, [])) == []


def test_models_in_turn_give_what_the_last_one_gives():
    seen = []
    one, two = (Net(lambda s, x: seen.append(s) or s.l(x), l=nn.Linear(2, 2)) for _ in range(2))
    x = torch.randn(1, 2)
    assert torch.equal(InTurn(one, two)(x), two.l(x))
    assert seen == [one, two]
