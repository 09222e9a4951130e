import torch
from helpers.gates import TASK, hidden
from helpers.stats import measure

from sparsify.registry import data_of


def test_the_product_of_the_absolute_matrices_in_float64_without_data():
    model, program, _ = hidden()
    found = measure(program, ["absolute-gradient"], None).found["absolute-gradient"]
    one, two = (layer.weight.detach().double().abs() for layer in (model.a, model.b))
    rows = len(program.example.args[0])
    torch.testing.assert_close(found["a.weight"], rows * two.sum(0)[:, None].expand(5, 3))
    torch.testing.assert_close(found["b.weight"], rows * one.sum(1).expand(2, 5))
    assert found["a.weight"].dtype == torch.float64


def test_no_data_is_asked_for():
    _, program, _ = hidden()
    assert data_of(["absolute-gradient"]) == "nothing"
    before = TASK.asked
    measure(program, ["absolute-gradient"], TASK)
    assert TASK.asked == before
