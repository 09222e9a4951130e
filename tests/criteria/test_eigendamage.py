import torch
from helpers.gates import TASK, batches, hidden
from helpers.stats import measure, weight_stats
from torch import nn

import sparsify as sp
from sparsify.criteria.eigendamage import Eigendamage


def rotation(size, seed):
    return torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(seed)))[0]


def setting():
    """A weight with the statistic of a known Fisher information `[O·K, O·K]`."""
    inner, outer = rotation(3, 1), rotation(2, 2)
    scale = torch.tensor([[4.0, 1.0, 0.5], [2.0, 0.0, 3.0]])
    both = torch.kron(outer, inner)
    stats = weight_stats(
        [[1.0, -2.0, 0.5], [0.0, 1.5, -1.0]],
        kronecker_factors=torch.cat([inner.flatten(), outer.flatten(), scale.flatten()]),
    )
    return stats, both @ torch.diag(scale.flatten()) @ both.T


def test_formula_with_an_explicit_fisher_matrix():
    stats, fisher = setting()
    expected = stats.weight.square() * fisher.diagonal().view(2, 3) / 2
    torch.testing.assert_close(Eigendamage().weight(stats), expected)


def test_the_diagonal_that_is_turned_back_keeps_the_sum_of_the_examples_squared_gradients():
    model, program, _ = hidden()
    stats = measure(program, Eigendamage.needs, TASK, signals=[], batches=1).of_weight("a.weight")
    fisher = 2 * Eigendamage().weight(stats) / stats.weight.detach().square()
    x, y = batches(1)[0]
    losses = [TASK.loss(model, (x[i : i + 1], y[i : i + 1])) / len(x) for i in range(len(x))]
    squares = sum(torch.autograd.grad(loss, model.a.weight)[0].square() for loss in losses)
    torch.testing.assert_close(fisher.sum(), squares.sum(), rtol=1e-4, atol=0)  # float32


def test_channel_prune_takes_the_channel_that_nobody_reads():
    model, program, _ = hidden()
    with torch.no_grad():
        model.b.weight[:, 3] = 0
    result = sp.run(program, ["channel-prune:sparsity=0.2,criterion=eigendamage"], task=TASK)
    assert [int(i) for i in (~result.program.masks["a.weight"].any(1)).nonzero()] == [3]


def test_layers_of_transformers_and_convolutions_have_scores():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True).eval()
    program = sp.capture(nn.Sequential(layer, nn.Flatten(), nn.Linear(24, 2)), (torch.randn(2, 3, 8),))
    task = type(TASK)(inputs=(3, 8), outputs=2, count=2)
    measured = measure(program, Eigendamage.needs, task, signals=[])
    for name in ("0.linear1.weight", "0.linear2.weight", "2.weight"):
        scores = Eigendamage().weight(measured.of_weight(name))
        assert scores.shape == program.parameters[name].shape
        assert (scores > 0).any()
