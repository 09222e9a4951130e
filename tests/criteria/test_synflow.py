import torch
from helpers.stats import block_stats, measure, weight_stats
from torch import nn

from sparsify.capture import capture
from sparsify.criteria.magnitude import Magnitude
from sparsify.criteria.synflow import Synflow
from sparsify.masking import masked


def deep(depth=12, width=24):
    torch.manual_seed(0)
    layers = [nn.Linear(width, width, bias=False) for _ in range(depth)]
    return capture(nn.Sequential(*layers), (torch.randn(1, width),))


def scores(program, criterion):
    measured = measure(program, criterion.needs, None, signals=[])
    return {name: criterion.weight(measured.of_weight(name)) for name in program.parameters}


def pruned(program, criterion, rounds, density):
    """Prune in rounds with an exponential schedule over all layers; return which share of each layer is left."""
    for number in range(1, rounds + 1):
        found = scores(program, criterion)
        flat = torch.cat([value.double().flatten() for value in found.values()])
        kept = max(1, round(len(flat) * density ** (number / rounds)))
        threshold = flat.topk(kept).values[-1].clamp_min(1e-300)
        program = masked(program, {name: value >= threshold for name, value in found.items()})
    return [float(mask.float().mean()) for mask in program.masks.values()]


def test_formula_in_float64():
    stats = weight_stats([[1.0, -2.0]], absolute_gradient=torch.tensor([[3.0, 0.5]], dtype=torch.float64))
    assert torch.equal(Synflow().weight(stats), torch.tensor([[3.0, 1.0]]).double())


def test_a_block_is_the_mean():
    assert Synflow().block(block_stats(weight_stats([1.0, -1.0], absolute_gradient=[3.0, 1.0]))) == 2.0


def test_layers_share_the_flow_equally():
    totals = [float(value.sum()) for value in scores(deep(), Synflow()).values()]
    torch.testing.assert_close(totals, [totals[0]] * len(totals))


def test_no_layer_of_a_deep_network_is_emptied_at_99_percent_in_its_rounds():
    left = pruned(deep(), Synflow(), Synflow.rounds, 0.01)
    assert min(left) > 0
    assert abs(sum(left) / len(left) - 0.01) < 0.001


def test_scores_that_do_not_conserve_empty_a_layer_where_it_does_not():
    """The rounds and the conservation matter: magnitudes empty the narrow values of one layer."""
    program = deep()
    with torch.no_grad():
        program.parameters["5.weight"].mul_(0.1)
    assert min(pruned(program, Magnitude(), 1, 0.05)) == 0
    assert min(pruned(program, Synflow(), 20, 0.05)) > 0


def test_masked_weights_score_zero():
    program = deep(3, 5)
    mask = torch.rand(5, 5, generator=torch.Generator().manual_seed(0)) > 0.5
    found = scores(masked(program, {"1.weight": mask}), Synflow())["1.weight"]
    assert torch.equal(found == 0, ~mask)


def test_training_mode_norms_are_not_used():
    """In training mode a batch of equal inputs would make zeros behind every norm."""
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2)]
    program = capture(nn.Sequential(*layers).train(), (torch.randn(4, 1, 8, 8),))
    measured = measure(program, Synflow.needs, None, signals=[])
    assert bool((Synflow().weight(measured.of_weight("0.weight")) > 0).all())
