"""Second derivatives: attention has them without its fused kernels, and what has none is named."""

import pytest
import torch
from helpers.given import Outputs
from helpers.zoo import FAMILIES
from torch.nn import functional as F

import sparsify as sp
from sparsify.errors import PassError
from sparsify.observation.second_order import second_derivatives

SECOND_ORDER = ["grasp", "cops", "obd", "prospr", "gradient-flow"]


def test_attention_has_second_derivatives():
    q = torch.randn(1, 2, 4, 8, dtype=torch.float64, requires_grad=True)
    with torch.no_grad(), second_derivatives():
        loss = F.scaled_dot_product_attention(q, q, q).square().sum()
        (first,) = torch.autograd.grad(loss, q, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), q)
    assert bool(second.any())
    assert not torch.is_grad_enabled() or q.requires_grad


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="sizes"), second_derivatives():
        raise RuntimeError("sizes differ")


@pytest.mark.parametrize("criterion", SECOND_ORDER)
def test_an_operator_without_second_derivative_is_named_with_the_way_out(criterion):
    model, args, kwargs = FAMILIES["mixtral"]()
    spec = f"weight-prune:sparsity=0.5,criterion={criterion},batches=1"
    with pytest.raises(PassError, match=r"transformers\.grouped_mm\w* has no second derivative.*set_experts") as caught:
        sp.run(sp.capture(model, args, kwargs), [spec], task=Outputs(kwargs))
    assert "snip" in str(caught.value)


def test_the_way_out_leads_out():
    model, args, kwargs = FAMILIES["mixtral"]()
    model.set_experts_implementation("batched_mm")
    spec = "weight-prune:sparsity=0.5,criterion=grasp,batches=1,allow_collapse=yes"
    report = sp.run(sp.capture(model, args, kwargs), [spec], task=Outputs(kwargs)).report
    assert report["passes"][0]["reached"] == pytest.approx(0.5, abs=1e-5)
