import torch
from helpers.stats import block_stats, weight_stats

from sparsify.criteria.gradient_flow import GradientFlow
from sparsify.criteria.grasp import Grasp


def test_formula():
    stats = weight_stats([[1.0, -2.0], [0.5, -1.0]], hessian_gradient=[[3.0, 1.0], [-4.0, -1.0]])
    assert torch.equal(GradientFlow().weight(stats), torch.tensor([[3.0, 2.0], [2.0, 1.0]]))


def test_it_is_grasp_without_its_sign():
    generator = torch.Generator().manual_seed(0)
    weight, product = torch.randn(2, 3, 4, generator=generator)
    stats = weight_stats(weight, hessian_gradient=product)
    assert torch.equal(GradientFlow().weight(stats), Grasp().weight(stats).abs())


def test_what_changes_the_flow_against_grasps_sign_stays_too():
    stats = weight_stats([1.0, 1.0, 1.0], hessian_gradient=[-5.0, 0.1, 5.0])
    assert int(Grasp().weight(stats).argmin()) == 0
    assert int(GradientFlow().weight(stats).argmin()) == 1


def test_a_block_is_the_mean():
    assert GradientFlow().block(block_stats(weight_stats([1.0, -1.0], hessian_gradient=[3.0, 3.0]))) == 3.0
