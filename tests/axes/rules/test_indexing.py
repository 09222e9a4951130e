import pytest
import torch
from helpers.axes import case, prove
from torch import nn
from torch.nn import functional as F

TOKENS = (3, 5)
TABLE = nn.Parameter(torch.ones(7, 4))


def ids(x, count=7):
    """Whole numbers below `count` that depend on the input."""
    return (x.detach().abs() * 3).long() % count


def pair(x, *last):
    return x.view(-1, 2, *(last or (3,)))


def at(*numbers):
    return torch.tensor(numbers)


def chosen(x):
    """The places of the two largest channels: indices of the channels themselves."""
    return x.topk(2, 1)[1]


def routed(s, x):
    """As a mixture of experts: every row meets the weights of the two experts with the largest scores."""
    scores, places = x.topk(2, 1)
    return torch.einsum("bk,bkf->bf", scores, s.p[places])


def written(x):
    x = x.clone()
    x[:, 1:3] = x[:, 3:5] * 2
    return x


LOOKED_UP = {
    "embedding": case(lambda s, x: s.e(ids(x)).sum(1), 6, [4], [6], e=nn.Embedding(7, 4, padding_idx=0)),
    "embedding of numbers": case(lambda s, x: s.e(torch.arange(6)) * x[..., None], 6, [4], e=nn.Embedding(7, 4)),
    "embedding of experts": case(lambda s, x: s.e(chosen(x)), 6, [4], [6], e=nn.Embedding(6, 4)),
    "bags of embeddings": case(lambda s, x: s.e(ids(x)), 6, [4], e=nn.EmbeddingBag(7, 4, mode="sum")),
    "means of embeddings": case(lambda s, x: s.e(ids(x)), 6, [4], e=nn.EmbeddingBag(7, 4)),
    "index": case(lambda s, x: x[:, [0, 2, 2]], 6, [3]),
    "index of tokens": case(lambda s, x: x[:, [1, 0, 0]], 6, [6, 3], x=TOKENS),
    "index by a matrix": case(lambda s, x: x[:, torch.tensor([[0, 2], [1, 1]])], 6, [2, 2]),
    "index by two": case(lambda s, x: pair(x)[:, [0, 1], [2, 2]], 6, [2]),
    "index by two that broadcast": case(
        lambda s, x: pair(x, 3, 4)[:, torch.tensor([[0], [1]]), at(0, 2, 1)], 24, [4, 2, 3]),
    "index by two that are apart": case(lambda s, x: pair(x, 3, 4)[:, at(0, 1), :, at(3, 1)], 24, [3]),
    "index behind a slice": case(lambda s, x: pair(x, 3, 4)[:, 1:, [1, 2]], 24, [4, 2]),
    "index behind a new dimension": case(lambda s, x: x[:, None, [1, 2]], 6, [2]),
    "index by one number": case(lambda s, x: x * s.p[torch.tensor(1)], 4, [5, 4], p=TABLE),
    "index by data": case(lambda s, x: s.p[ids(x)].sum(1), 6, [4], [6], p=TABLE),
    "index by data in two dimensions": case(
        lambda s, x: s.p[ids(x), :, ids(x, 3)].sum(1), 6, [4], [6], p=nn.Parameter(torch.ones(7, 4, 3))),
    "index by truth": case(lambda s, x: x[:, torch.tensor([True, False, True, True])], 4),
    "index by experts": case(routed, 6, [4], [6], p=nn.Parameter(torch.ones(6, 4))),
    "index by the best": case(lambda s, x: s.p[x.argmax(1)], 6, [4], p=nn.Parameter(torch.ones(6, 4))),
    "index by computed experts": case(lambda s, x: s.p[chosen(x) + 1], 6, [4], p=TABLE),
    "index by sorted experts": case(
        lambda s, x: s.p[chosen(x).sort(1)[0]], 6, [4], [6], p=nn.Parameter(torch.ones(6, 4))),
    "index of the batch": case(lambda s, x: x[ids(x[:, 0], 2)], 6, [5]),
    "index_select": case(lambda s, x: x.index_select(dim=-1, index=at(3, 3, 1)), 6, [3]),
    "index_select of one": case(lambda s, x: x.index_select(1, torch.tensor(3)), 6),
    "gather": case(lambda s, x: pair(x).gather(dim=2, index=ids(pair(x), 3)), 6, [2]),
    "gather from behind": case(lambda s, x: pair(x).gather(-2, ids(pair(x), 2)), 6, [3]),
    "gather at fewer places": case(lambda s, x: pair(x).gather(2, ids(pair(x)[:, :1], 3)), 6),
    "gather experts": case(lambda s, x: s.b(x).gather(1, chosen(x)), 6, [], [6], b=nn.Linear(6, 6)),
    "take_along_dim": case(lambda s, x: torch.take_along_dim(x, chosen(x), 1), 6, [], [6]),
    "take_along_dim that broadcasts": case(
        lambda s, x: torch.take_along_dim(pair(x), ids(pair(x)[:, :1], 2), -2), 6, [3]),
    "take_along_dim of all": case(
        lambda s, x: x * torch.take_along_dim(s.p, at(1, 2)).sum(), 6, [6], p=nn.Parameter(torch.ones(2, 3))),
}  # fmt: skip

ORDERED = {
    "topk": case(lambda s, x: x.topk(2)[0], 6, [], [6]),
    "topk along": case(lambda s, x: x.view(-1, 4, 3).topk(k=2, dim=-2, largest=False)[0], 12, [3], [4]),
    "topk of all": case(lambda s, x: x.topk(6)[0], 6),
    "numbers of topk": case(lambda s, x: chosen(x) * x.tanh().sum(1, True), 6),
    "sort": case(lambda s, x: x.sort()[0], 6),
    "sort along": case(lambda s, x: pair(x).sort(1, True)[0], 6, [3]),
    "sort backwards": case(lambda s, x: pair(x).sort(descending=True)[0], 6, [2]),
    "sort stably": case(lambda s, x: pair(x).sort(stable=True, dim=1, descending=True)[0], 6, [3]),
    "argsort": case(lambda s, x: pair(x).argsort(dim=-2, stable=True) * pair(x), 6, [3]),
    "histogram of data": case(lambda s, x: x * x.histc(6, -1, 1), 6),
    "histogram of experts": case(lambda s, x: x * chosen(x).float().histc(6, 0, 5), 6, [], [6]),
    "histogram of experts in other bins": case(lambda s, x: x[:, :5] * chosen(x).float().histc(5, 0, 5), 6),
    "one-hot data": case(lambda s, x: F.one_hot(ids(x), 7).to(x.dtype) @ s.p, 6, [4, 6], p=TABLE),
    "one-hot experts": case(lambda s, x: F.one_hot(chosen(x), num_classes=6).sum(1) * x, 6, [], [6]),
    "one-hot experts of more classes": case(
        lambda s, x: F.one_hot(chosen(x), 7).to(x.dtype) @ s.p, 6, [4], p=TABLE),
}  # fmt: skip

WRITTEN = {
    "index_put": case(lambda s, x: x.index_put((at(0),), x[:1].tanh()), 6),
    "masked_scatter": case(lambda s, x: x.masked_scatter(x > 0, x.tanh()), 6),
    "scatter": case(lambda s, x: x.scatter(1, ids(x, 6), x.tanh()), 6),
    "scatter_add": case(lambda s, x: x.scatter_add(1, ids(x, 6), x), 6),
    "index_add": case(lambda s, x: x.index_add(1, at(1, 2), x[:, :2]), 6),
    "index_fill": case(lambda s, x: x.index_fill(1, at(1), 2.0), 6),
    "slice_scatter": case(lambda s, x: x.slice_scatter(x[:, :2], 1, 3, 5), 6),
    "a slice in place": case(lambda s, x: written(x), 5),
    "tril": case(lambda s, x: pair(x).tril(), 6),
    "triu of batches": case(lambda s, x: pair(x, 3, 4).triu(1), 24, [2]),
    "diff": case(lambda s, x: pair(x).diff(), 6, [2]),
    "diff along, twice": case(lambda s, x: x.view(-1, 4, 3).diff(2, 1), 12, [3]),
    "diff with a start": case(
        lambda s, x: pair(x).diff(dim=1, prepend=pair(s.b(x))), 6, [3], b=nn.Linear(6, 6)),
}  # fmt: skip
CASES = {**LOOKED_UP, **ORDERED, **WRITTEN}


@pytest.mark.parametrize("name", CASES)
def test_what_is_free_can_go(name):
    case = CASES[name]
    assert prove(case) == (case.exact, case.inexact)
