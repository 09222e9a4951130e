"""Weights of which a part is trained and the rest stays."""

import math
import zlib

import pytest
import torch
from torch import nn

import sparsify as sp
from sparsify.embedding import embedded_names, folded
from sparsify.errors import PassError, UsageError
from sparsify.freezing import SEED, Draw, frozen, frozen_draws, frozen_weights, redrawn, thawed
from sparsify.kernels.seeded import seeded
from sparsify.layers import layers
from sparsify.masking import masked
from sparsify.verify import outputs

WEIGHTS = ("0.weight", "2.weight", "4.weight")


@pytest.fixture
def program():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 10))
    return sp.capture(model, (torch.randn(2, 3, 8, 8),))


def random_masks(program, share=0.25):
    generator = torch.Generator().manual_seed(3)
    return {name: torch.rand(program.parameters[name].shape, generator=generator) < share for name in WEIGHTS}


@pytest.fixture
def masks(program):
    return random_masks(program)


def test_frozen_is_the_same_function_and_says_what_is_trained(program, masks):
    after = frozen(program, masks)
    assert torch.equal(outputs(after)[0], outputs(program)[0])
    assert dict(after.masks) == {}
    assert list(after.frozen) == list(WEIGHTS)
    for name in WEIGHTS:
        assert torch.equal(after.frozen[name], masks[name])
        assert torch.equal(after.parameters[name], torch.where(masks[name], program.parameters[name], 0.0))
        assert torch.equal(after.buffers[f"{name}_base"], program.parameters[name])
    assert embedded_names(after) == WEIGHTS
    assert [layer.parameter for layer in layers(after)] == list(WEIGHTS)


def test_no_gradient_reaches_what_is_frozen(program, masks):
    module = frozen(program, masks).module(training=True)
    module(program.example.args[0]).square().sum().backward()
    for name in WEIGHTS:
        gradient = module.get_parameter(name).grad
        assert bool((gradient[~masks[name]] == 0).all())
        assert bool(gradient[masks[name]].any())


@pytest.mark.parametrize(("init", "distribution", "scale"), [
    ("torch", "uniform", lambda fan_in, fan_out: 1 / math.sqrt(fan_in)),
    ("kaiming", "normal", lambda fan_in, fan_out: math.sqrt(2 / fan_in)),
    ("xavier", "uniform", lambda fan_in, fan_out: math.sqrt(6 / (fan_in + fan_out))),
    ("sign", "sign", lambda fan_in, fan_out: math.sqrt(2 / fan_in)),
])  # fmt: skip
def test_weights_are_drawn_from_the_seed_and_nothing_else_need_be_kept(program, masks, init, distribution, scale):
    before = redrawn(program, 7, init)
    weight = before.parameters["2.weight"]
    expected = seeded(torch.tensor(7), zlib.crc32(b"2.weight"), [8, 8, 3, 3], distribution, scale(72, 8))
    assert torch.equal(weight, expected)
    assert not bool(before.parameters["0.bias"].any())
    after = frozen(before, masks, 7, init)
    assert torch.equal(outputs(after)[0], outputs(before)[0])
    assert [name for name in after.buffers if not name.endswith("_mask")] == [SEED]
    assert after.buffers[SEED].dtype == torch.int64
    assert frozen_draws(after)["2.weight"] == Draw(distribution, scale(72, 8))


def test_thawed_weights_are_parameters_with_their_values(program, masks):
    before = redrawn(program, 7)
    for after in (frozen(before, masks, 7), frozen(before, masks)):
        plain = thawed(after)
        assert not plain.frozen
        assert not plain.buffers
        assert embedded_names(plain) == ()
        assert all(torch.equal(plain.parameters[name], before.parameters[name]) for name in before.parameters)
    assert str(thawed(program)) == str(program)


def test_bases_can_be_drawn_for_each_weight(program, masks):
    after = frozen(program, {"4.weight": masks["4.weight"]}, 5, {"4.weight": Draw("sign", 0.5)})
    found = folded(after).parameters["4.weight"]
    assert torch.equal(found[~masks["4.weight"]].abs(), torch.full((int((~masks["4.weight"]).sum()),), 0.5))
    again = frozen(after, {"2.weight": masks["2.weight"]}, 5)
    assert frozen_draws(again) == {"2.weight": Draw("uniform", 1 / math.sqrt(72)), "4.weight": Draw("sign", 0.5)}


def test_saved_and_loaded_it_is_frozen_still(program, masks, tmp_path):
    for number, after in enumerate((frozen(redrawn(program, 7), masks, 7), frozen(program, masks))):
        sp.save(after, tmp_path / f"{number}.pt2")
        again = sp.load(tmp_path / f"{number}.pt2")
        assert frozen_draws(again) == frozen_draws(after)
        assert all(torch.equal(again.frozen[name], masks[name]) for name in WEIGHTS)
        assert torch.equal(outputs(again)[0], outputs(after)[0])


def test_exported_it_is_written_out(program, masks, tmp_path):
    import onnx

    sp.export_onnx(frozen(redrawn(program, 7), masks, 7), tmp_path / "small.onnx")
    assert {node.op_type for node in onnx.load(tmp_path / "small.onnx").graph.node} <= {
        "Conv", "Relu", "Flatten", "Reshape", "Gemm",
    }  # fmt: skip


def test_only_what_is_trained_counts_as_trainable(program, masks):
    cost = sp.cost(frozen(redrawn(program, 7), masks, 7))
    trained = sum(int(mask.sum()) for mask in masks.values())
    assert cost.trainable == trained + 26
    assert cost.parameters == sp.cost(program).parameters
    assert cost.nonzero == cost.parameters - 26  # the drawn biases are zeros


def test_masked_and_frozen_weights_and_odd_seeds_are_refused(program, masks):
    hidden = masked(program, {"4.weight": masks["4.weight"]})
    with pytest.raises(PassError, match=r"4\.weight is masked or embedded already"):
        frozen(hidden, masks)
    once = frozen(program, {"4.weight": masks["4.weight"]}, 7)
    with pytest.raises(PassError, match=r"4\.weight is masked or embedded already"):
        frozen(once, masks, 7)
    with pytest.raises(PassError, match="the seed 7 already, and a model has only one, not 8"):
        frozen(once, {"2.weight": masks["2.weight"]}, 8)
    with pytest.raises(PassError, match=r"4\.weight is frozen"):
        redrawn(once, 7)
    with pytest.raises(UsageError, match="does not fit into 32 bits"):
        redrawn(program, 1 << 32)
    with pytest.raises(PassError, match=r"0\.bias cannot be drawn from a seed"):
        frozen(program, {"0.bias": torch.ones(8, dtype=torch.bool)}, 7)
    with pytest.raises(ValueError, match="not bool"):
        frozen(program, {"4.weight": masks["2.weight"]})


def test_words_say_how_many_and_where_they_are(program, masks):
    one = {name: mask for name, mask in masks.items() if name == "4.weight"}
    count, of_one = (sum(int((~mask).sum()) for mask in part.values()) for part in (masks, one))
    others = {name: mask for name, mask in masks.items() if name not in one}
    assert frozen_weights(program) == ""
    assert frozen_weights(frozen(program, masks)) == f"{count:,} of 2,072 weights, stored"
    assert frozen_weights(frozen(program, masks, 7)) == f"{count:,} of 2,072 weights, computed from the seed 7"
    both = frozen_weights(frozen(frozen(program, one, 7), others))
    assert both == f"{count:,} of 2,072 weights, {of_one:,} of them computed from the seed 7, others stored"


def test_a_frozen_weight_is_not_pruned_by_mistake():
    program = sp.run(sp.capture(nn.Linear(16, 8), (torch.randn(2, 16),)), ["freeze:sparsity=0.5"]).program
    with pytest.raises(PassError, match="weight is frozen in part, and cannot be pruned as well"):
        sp.run(program, ["weight-prune:sparsity=0.5"])
    assert sp.run(program, ["fold", "weight-prune:sparsity=0.5"]).program.masks.keys() == {"weight"}


def test_write_back_writes_what_is_computed():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    program = sp.run(sp.capture(model, (torch.randn(2, 16),)), ["redraw", "freeze:sparsity=0.5,base=seed"]).program
    sp.write_back(program, model)
    x = torch.randn(4, 16)
    assert torch.equal(model(x), program.module()(x))


@pytest.mark.parametrize(("inputs", "init"), [(1, "torch"), (2, "kaiming")])
def test_a_draw_that_is_the_operators_default_is_known(inputs, init):
    """1/√1 and √(2/2) are 1, the default of the operator, which tracing leaves out."""
    torch.manual_seed(0)
    program = redrawn(sp.capture(nn.Linear(inputs, 5), (torch.randn(2, inputs),)), 7, init)
    half = torch.arange(5 * inputs).view(5, inputs) % 2 == 0
    (draw,) = frozen_draws(frozen(program, {"weight": half}, 7, init)).values()
    assert draw.scale == 1
