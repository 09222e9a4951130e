import pytest
import torch
from helpers.axes import case, prove
from torch import nn
from torch.nn import functional as F

P = nn.Parameter(torch.ones(6))
ROW, PAIR = nn.Parameter(torch.ones(1, 6)), nn.Parameter(torch.ones(12, 2, 2))
IMAGE = (2, 4, 4)

CASES = {
    "view splits": case(lambda s, x: x.view(-1, 4, 6).transpose(1, 2), 24, [4, 6]),
    "view splits and joins": case(
        lambda s, x: s.b(x.view(-1, 2, 4, 6).transpose(1, 2).reshape(-1, 4, 12)), 24, [4, 6, 7],
        x=(2, 5), b=nn.Linear(12, 7)),
    "view infers a size": case(lambda s, x: x.view(x.shape[0], 4, -1).transpose(1, 2), 24, [4, 6]),
    "view joins batch and heads": case(
        lambda s, x: x.view(-1, 3, 4, 6).transpose(1, 2).reshape(-1, 3, 6).tanh().view(-1, 4, 3, 6), 24, [4, 6],
        x=(3, 5)),
    "view computes with the batch size": case(
        lambda s, x: x.view(x.shape[0] * 2, 3).tanh().view(-1, 6), 6, [2, 3]),
    "view divides the batch size": case(
        lambda s, x: x.view(x.shape[0] * 2, 3).tanh().view((x.shape[0] * 2) // 2, 6), 6, [2, 3]),
    "view with sizes of one": case(lambda s, x: x.view(-1, 1, 6, 1, 4).transpose(2, 4), 24, [6, 4]),
    "view to one dimension": case(lambda s, x: x.view(-1).tanh().view(-1, 6), 6, [6]),
    "view after view": case(lambda s, x: x.view(-1, 4, 6).tanh().view(-1, 12, 2).transpose(1, 2), 24, [4, 3, 2]),
    "view that no factors fit": case(lambda s, x: x.view(-1, 4, 6).transpose(1, 2).reshape(-1, 8, 3), 24),
    "reshape": case(lambda s, x: x.reshape(x.shape[0], 4, 6).transpose(1, 2), 24, [4, 6]),
    "flatten": case(lambda s, x: x.view(-1, 4, 6).transpose(1, 2).flatten(-2), 24, [4, 6]),
    "flatten the batch": case(lambda s, x: x.flatten(0, 1).tanh().unflatten(0, (-1, 3)), 6, [6], x=(3, 5)),
    "unflatten": case(lambda s, x: x.unflatten(-1, (4, -1)).transpose(1, 2), 24, [4, 6]),
    "unflatten by keywords": case(lambda s, x: x.unflatten(dim=1, sizes=(-1, 6)).transpose(1, 2), 24, [4, 6]),
    "squeeze all": case(lambda s, x: x.unsqueeze(1).tanh().squeeze(), 6, [6]),
    "squeeze one": case(lambda s, x: x.unsqueeze(-1).tanh().squeeze(-1), 6, [6]),
    "squeeze of more than one": case(lambda s, x: x.squeeze(1), 6, [6]),
    "squeeze several": case(lambda s, x: x[:, None, :, None].tanh().squeeze((1, 3)), 6, [6]),
    "unsqueeze in front": case(lambda s, x: (x.unsqueeze(0) * s.p).squeeze(0), 6, [6], p=P),
    "unsqueeze from behind": case(lambda s, x: x.unsqueeze(dim=-2) * s.p.unsqueeze(-1), 6, [6, 6], p=P),
    "view_as": case(lambda s, x: x.view(-1, 2, 3).view_as(x), 6),
    "view_as_complex": case(
        lambda s, x: torch.view_as_real(torch.view_as_complex(x.view(-1, 3, 2)) * (1 + 2j)), 6, [3]),
    "permute": case(lambda s, x: x.view(-1, 3, 4, 5).permute(0, -1, 1, -2), 60, [3, 4, 5]),
    "transpose": case(lambda s, x: x.view(-1, 3, 4).transpose(-1, 1), 12, [3, 4]),
    "swapaxes": case(lambda s, x: x.view(-1, 3, 4).swapaxes(1, 2), 12, [3, 4]),
    "swapdims": case(lambda s, x: x.view(-1, 3, 4).swapdims(1, 2), 12, [3, 4]),
    "movedim": case(lambda s, x: x.view(-1, 3, 4, 5).movedim(1, -1), 60, [3, 4, 5]),
    "movedim of several": case(lambda s, x: x.view(-1, 3, 4, 5).movedim((1, -1), (2, 1)), 60, [3, 4, 5]),
    "moveaxis": case(lambda s, x: x.view(-1, 3, 4, 5).moveaxis(-1, 1), 60, [3, 4, 5]),
    "mT": case(lambda s, x: x.view(-1, 3, 4).mT, 12, [3, 4]),
    "adjoint": case(lambda s, x: x.view(-1, 3, 4).adjoint(), 12, [3, 4]),
    "t": case(lambda s, x: x.t().tanh().t(), 6, [6]),
    "t of one dimension": case(lambda s, x: x * s.p.t(), 6, [6], p=P),
    "T": case(lambda s, x: x * s.p.T.sum(1), 6, [6], p=ROW),
    "expand": case(lambda s, x: x[:, None].expand(-1, 4, -1), 6, [6, 4]),
    "expand to sizes": case(lambda s, x: x[:, None].expand(x.shape[0], 4, 6), 6, [6, 4]),
    "expand in front": case(lambda s, x: x + s.p.expand(x.shape[0], 6), 6, [6], p=P),
    "expand that keeps one": case(lambda s, x: x[:, None].expand(-1, 1, 6), 6, [6]),
    "expand_as": case(lambda s, x: x * s.p.expand_as(x), 6, [6], p=ROW),
    "broadcast_to": case(lambda s, x: x[:, None].broadcast_to(x.shape[0], 4, 6), 6, [6, 4]),
    "expand repeats heads": case(
        lambda s, x: x.view(-1, 2, 1, 3).expand(-1, 2, 4, 3).reshape(-1, 8, 3), 6, [2, 3, 4]),
    "repeat": case(lambda s, x: x.repeat(1, 3), 6, [6, 3]),
    "repeat into a new dimension": case(lambda s, x: s.p.repeat(4, 1) * x[:, None], 6, [6, 4], p=P),
    "tile": case(lambda s, x: x.tile((1, 3)), 6, [6, 3]),
    "tile with fewer numbers than dimensions": case(lambda s, x: x.tile(3), 6, [6, 3]),
    "repeat_interleave": case(lambda s, x: x.repeat_interleave(3, -1), 6, [6, 3]),
    "repeat_interleave by keywords": case(lambda s, x: x.repeat_interleave(repeats=3, dim=1), 6, [6, 3]),
    "repeat_interleave once": case(lambda s, x: x.repeat_interleave(1, 1), 6, [6]),
    "repeat_interleave without a dimension": case(lambda s, x: x.repeat(1, 2) * s.p.repeat_interleave(2), 6, p=P),
    "repeat_interleave by data": case(
        lambda s, x: x.repeat_interleave(torch.tensor([1, 0, 2]), 1, output_size=3), 3),
    "pixel_shuffle": case(lambda s, x: F.pixel_shuffle(x, 2), nn.Conv2d(2, 12, 1), [3], x=IMAGE),
    "pixel_shuffle without a batch": case(
        lambda s, x: x * F.pixel_shuffle(s.p, 2), nn.Conv2d(2, 3, 1), [3], x=IMAGE, p=PAIR),
    "pixel_shuffle of two batches": case(
        lambda s, x: F.pixel_shuffle(x[None], 2)[0], nn.Conv2d(2, 12, 1), [3], x=IMAGE),
    "pixel_unshuffle": case(lambda s, x: F.pixel_unshuffle(x, 2), nn.Conv2d(2, 3, 1), [3], x=IMAGE),
    "channel_shuffle": case(lambda s, x: F.channel_shuffle(x, 2), nn.Conv2d(2, 6, 1), [2, 3], x=IMAGE),
    "channel_shuffle of a sequence": case(lambda s, x: F.channel_shuffle(x, 2), nn.Conv1d(2, 6, 1), [2, 3], x=(2, 4)),
    "channel_shuffle of single channels": case(lambda s, x: F.channel_shuffle(x, 6), nn.Conv1d(2, 6, 1), [6], x=(2, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_free_can_go(name):
    case = CASES[name]
    assert prove(case) == (case.exact, case.inexact)
