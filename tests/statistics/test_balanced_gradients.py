import torch
from helpers.gates import TASK, hidden
from helpers.stats import measure

from sparsify.observation.calibration import Calibration
from sparsify.observation.subject import Subject
from sparsify.statistics.balanced_gradients import BalancedGradients


def test_both_have_the_same_sum_over_all_weights():
    model, program, _ = hidden()
    found = measure(program, ["balanced-gradients"], TASK).found["balanced-gradients"]
    products = [found[f"{name}.weight"] * getattr(model, name).weight.detach() for name in ("a", "b")]
    totals = sum(product.abs().sum((1, 2)) for product in products)
    torch.testing.assert_close(totals, torch.ones(2))


def test_they_are_gradient_and_hessian_gradient_up_to_one_factor_each():
    _, program, _ = hidden()
    found = measure(program, ["balanced-gradients", "gradient", "hessian-gradient"], TASK).found
    for index, name in enumerate(("gradient", "hessian-gradient")):
        factors = [found["balanced-gradients"][key][index] / found[name][key] for key in program.parameters]
        flat = torch.cat([factor.flatten() for factor in factors])
        torch.testing.assert_close(flat, flat[:1].expand_as(flat), rtol=1e-4, atol=0)  # float32


def test_a_part_of_the_parameters_has_the_scale_of_all():
    _, program, _ = hidden()
    whole = measure(program, ["balanced-gradients"], TASK).found["balanced-gradients"]
    part = BalancedGradients().measure(Subject(program, Calibration(TASK), ["b.weight"]))
    assert set(part) == {"b.weight"}
    assert torch.equal(part["b.weight"], whole["b.weight"])
