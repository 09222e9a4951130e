"""freeze: the function stays, and a training moves what was chosen alone."""

import pytest
import torch
from helpers.residual import resnet
from helpers.sparse import Clusters, program_of
from torch import nn

import sparsify as sp
from sparsify.errors import PassError, UsageError
from sparsify.freezing import SEED, thawed
from sparsify.verify import outputs

GOLDEN = """
%seeded: float32[4, 3] = sparsify.seeded(sparsify_seed, 3378657847, [4, 3], uniform, 0.5773502691896258)
%where: float32[4, 3] = where.self(0.weight_mask, 0.weight, %seeded)
%parameter_default: float32[4, 3] = sparsify.parameter(%where, 0.weight)
%input_1: float32[batch, 3] = input
%linear: float32[batch, 4] = linear(%input_1, %parameter_default, 0.bias)
return [%linear]
"""


def freeze(options, program=None, **more):
    return sp.run(program or program_of(), [f"freeze:{options}"], **more)


def tuned(program, task=None):
    return sp.retrain(program, "fine-tune:steps=20it,learning_rate=0.05", task or Clusters()).program


def test_golden():
    torch.manual_seed(0)
    program = sp.capture(nn.Sequential(nn.Linear(3, 4)), (torch.randn(2, 3),))
    after = sp.run(program, ["redraw:seed=7", "freeze:sparsity=0.5,base=seed,seed=7"]).program
    assert str(after).strip() == GOLDEN.strip()


@pytest.mark.parametrize(
    "options", ["sparsity=0.9", "sparsity=0.6,scope=layer", "sparsity=0.8,allocation=erk,last=dense"]
)
def test_the_weights_that_weight_prune_would_keep_are_trained(options):
    before, result = program_of(), freeze(options)
    masks = sp.run(before, [f"weight-prune:{options},allow_collapse=yes"]).program.masks
    assert result.program.frozen.keys() == masks.keys()
    assert all(torch.equal(mask, masks[name]) for name, mask in result.program.frozen.items())
    assert result.report["passes"][0]["contract"] == "exact"
    after = tuned(result.program)
    plain = thawed(after).parameters
    for name, mask in masks.items():
        assert torch.equal(plain[name][~mask], before.parameters[name][~mask])
        assert not mask.any() or not torch.equal(plain[name][mask], before.parameters[name][mask])


def test_fisher_needs_data():
    result = freeze("sparsity=0.9,criterion=fisher", task=Clusters())
    masks = sp.run(
        program_of(), ["weight-prune:sparsity=0.9,criterion=fisher,allow_collapse=yes"], Clusters()
    ).program.masks
    assert all(torch.equal(mask, masks[name]) for name, mask in result.program.frozen.items())
    with pytest.raises(PassError, match="needs a loss"):
        freeze("sparsity=0.9,criterion=fisher")


def test_filters_are_trained_whole_as_many_of_every_layer():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=4), nn.ConvTranspose2d(8, 6, 2), nn.Flatten(), nn.Linear(150, 10)
    )
    program = sp.capture(model, (torch.randn(2, 3, 8, 8),))
    one, again, other = (freeze("sparsity=0.75,what=filters", program, seed=seed).program.frozen for seed in (0, 0, 1))
    assert [int(mask.sum()) for mask in one.values()] == [int(mask.sum()) for mask in other.values()]
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    for name, dims in (("0.weight", (1, 2, 3)), ("1.weight", (1, 2, 3)), ("4.weight", (1,))):
        rows = one[name].float().mean(dims)
        assert set(rows.tolist()) == {0.0, 1.0}
        assert int(rows.sum()) == {"0.weight": 2, "1.weight": 2, "4.weight": 2}[name]


def test_filters_with_the_highest_scores_are_trained():
    program = program_of()
    mask = freeze("sparsity=0.5,what=filters,criterion=magnitude").program.frozen["0.weight"][:, 0]
    sums = program.parameters["0.weight"].detach().abs().sum(1)
    assert int(mask.sum()) == 16
    assert float(sums[mask].min()) > float(sums[~mask].max())


def test_all_may_be_frozen():
    result = freeze("sparsity=1,protect=4")
    assert set(result.program.frozen) == {"2.weight", "0.weight"}
    assert not any(bool(mask.any()) for mask in result.program.frozen.values())


def test_norms_alone_are_trained():
    program = program_of(norm=True)
    result = freeze("what=norms", program)
    assert [name for name, value in result.program.parameters.items() if value.requires_grad] == ["1.weight", "1.bias"]
    assert sp.cost(result.program).trainable == 64
    (step,) = result.report["passes"]
    assert step["done"].endswith("parameters are trained: those of 1 norm")
    after = tuned(result.program)
    moved = {name for name, value in after.parameters.items() if not torch.equal(value, program.parameters[name])}
    assert moved == {"1.weight", "1.bias"}
    with pytest.raises(PassError, match="no norm with a scale"):
        freeze("what=norms")


def test_from_a_seed_nothing_is_stored_but_it():
    result = sp.run(program_of(), ["redraw", "freeze:sparsity=0.9,base=seed"], seed=3)
    assert int(result.program.buffers[SEED]) == 3
    assert sorted(name for name in result.program.buffers if not name.endswith("_mask")) == [SEED]
    done = result.report["passes"][1]["done"]
    assert done == "864 of 960 weights in 3 layers are frozen (90.00%), computed from the seed 3; 96 are trained"
    assert "stored; 96 are trained" in freeze("sparsity=0.9").report["passes"][0]["done"]


def test_a_residual_network():
    _, program = resnet()[:2]
    result = sp.run(program, ["redraw", "freeze:sparsity=0.9,base=seed"])
    assert torch.equal(outputs(thawed(result.program))[0], outputs(result.program)[0])


@pytest.mark.parametrize(("options", "error"), [
    ("", "needs sparsity="),
    ("what=norms,sparsity=0.5", "leave it out"),
    ("sparsity=1.5", "not in"),
    ("sparsity=0.5,seed=3", "say how base=seed is drawn"),
    ("sparsity=0.5,what=filters,scope=layer", "as many of every layer"),
    ("sparsity=0.5,scope=global,allocation=erk", "the scores allocate"),
    ("sparsity=0.5,allocation=table", "of weight-prune"),
    ("sparsity=0.5,batches=0", "less than 1"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused(options, error):
    with pytest.raises(UsageError, match=error):
        freeze(options)


def test_what_cannot_be_frozen_is_refused():
    with pytest.raises(PassError, match=r"0\.weight is not what the seed 3 .* redraw:seed=3"):
        freeze("sparsity=0.9,base=seed,seed=3")
    pruned = sp.run(program_of(), ["weight-prune:sparsity=0.5"]).program
    with pytest.raises(PassError, match="are masked or frozen already"):
        freeze("sparsity=0.9", pruned)
    with pytest.raises(PassError, match="are masked or frozen already"):
        freeze("sparsity=0.9", freeze("sparsity=0.5").program)
