import pytest
import torch
from helpers.gates import TASK, hidden
from helpers.stats import measure, weight_stats

from sparsify.criteria.cops import Cops
from sparsify.criteria.grasp import Grasp
from sparsify.criteria.snip import Snip
from sparsify.errors import UsageError


def test_formula():
    stats = weight_stats([2.0, -1.0], balanced_gradients=[[-0.25, 0.5], [0.25, 0.5]])
    expected = torch.tensor([0.75 * 0.5 + 0.25 * 0.5, 0.75 * 0.5 - 0.25 * 0.5])
    torch.testing.assert_close(Cops(balance=0.25).weight(stats), expected)


def order(criterion, measured, names):
    return torch.cat([criterion.weight(measured.of_weight(name)).flatten() for name in names]).argsort()


def test_its_ends_rank_all_weights_of_a_network_as_snip_and_as_grasp():
    _, program, _ = hidden()
    measured = measure(program, (*Cops.needs, *Snip.needs, *Grasp.needs), TASK)
    names = ["a.weight", "b.weight"]
    assert torch.equal(order(Cops(balance=0.0), measured, names), order(Snip(), measured, names))
    assert torch.equal(order(Cops(balance=1.0), measured, names), order(Grasp(), measured, names))
    half = order(Cops(), measured, names)
    assert not torch.equal(half, order(Snip(), measured, names))
    assert not torch.equal(half, order(Grasp(), measured, names))


@pytest.mark.parametrize("balance", [-0.1, 1.1, float("nan")])
def test_a_balance_outside_of_zero_and_one_is_refused(balance):
    with pytest.raises(UsageError, match=r"cops: balance=\S+ is not between 0 and 1"):
        Cops(balance=balance)
