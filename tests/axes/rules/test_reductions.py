import pytest
import torch
from helpers.axes import case, prove
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

IMAGE, LINE, VOLUME, TOKENS = (2, 4, 4), (2, 6), (2, 4, 4, 4), (3, 5)
P = nn.Parameter(torch.ones(4, 3))
COUNTED = ([3], [2])  # what is free where the first of two dimensions, of sizes 2 and 3, is counted


def pair(x, last=3):
    return x.view(-1, 2, last)


def image(out=6):
    return nn.Conv2d(2, out, 1)


def line(out=6):
    return nn.Conv1d(2, out, 1)


def volume(out=6):
    return nn.Conv3d(2, out, 1)


SUMS = {
    "sum": case(lambda s, x: pair(x).sum(1), 6, [2, 3]),
    "sum that keeps": case(lambda s, x: pair(x).sum(-1, True) * pair(x), 6, [2, 3]),
    "sum of several": case(lambda s, x: pair(x).sum(dim=[-1, -2], keepdim=True) * pair(x), 6, [2, 3]),
    "sum of all": case(lambda s, x: x * s.p.sum(), 6, [4, 3, 6], p=P),
    "sum of a number": case(lambda s, x: x * s.p.sum(0), 6, [6], p=nn.Parameter(torch.tensor(2.0))),
    "sum of sigmoids": case(lambda s, x: pair(x).sigmoid().sum(1), 6, *COUNTED),
    "nansum": case(lambda s, x: pair(x).nansum(1), 6, [2, 3]),
    "count_nonzero": case(lambda s, x: pair(x).relu().count_nonzero((1, 2))[:, None] * x, 6, [2, 3]),
    "any": case(lambda s, x: (pair(x) > 0).any(1, keepdim=True) * pair(x), 6, *COUNTED),
    "vector_norm": case(lambda s, x: torch.linalg.vector_norm(pair(x), ord=3, dim=1), 6, [2, 3]),
    "vector_norm of all": case(lambda s, x: torch.linalg.vector_norm(s.p) * x, 6, [4, 3, 6], p=P),
    "vector_norm of order 0": case(lambda s, x: torch.linalg.vector_norm(pair(x), 0, -1, True) * pair(x), 6, [2], [3]),
    "norm": case(lambda s, x: pair(x).norm(dim=1), 6, [2, 3]),
    "norm of order 1": case(lambda s, x: pair(x).norm(1, dim=-1, keepdim=True), 6, [2, 3]),
    "norm of order infinity": case(lambda s, x: pair(x).norm(float("inf"), dim=-1), 6, [2, 3]),
    "smallest absolute value": case(lambda s, x: pair(x).norm(float("-inf"), dim=-1), 6, [2], [3]),
    "norm of Frobenius": case(lambda s, x: pair(x).norm("fro", dim=(1, 2))[:, None] * x, 6, [2, 3]),
    "norm of all": case(lambda s, x: x * s.p.norm(1), 6, [4, 3, 6], p=P),
    "normalize": case(lambda s, x: F.normalize(pair(x), p=1.0, dim=1), 6, [2, 3]),
    "divided by its norm": case(lambda s, x: pair(x) / pair(x).norm(dim=-1, keepdim=True), 6, [3], [2]),
    "weight norm": case(lambda s, x: s.b(x), 6, [6], [4], b=parametrizations.weight_norm(nn.Linear(6, 4))),
    "weight norm of columns": case(
        lambda s, x: s.b(x), 6, [4], [6], b=parametrizations.weight_norm(nn.Linear(6, 4), dim=1)),
    "weight norm of all": case(
        lambda s, x: s.b(x), 6, [6, 4], b=parametrizations.weight_norm(nn.Linear(6, 4), dim=None)),
    "spectral norm": case(lambda s, x: s.b(x), 6, [6, 4], b=parametrizations.spectral_norm(nn.Linear(6, 4))),
}  # fmt: skip

COUNTS = {
    "mean": case(lambda s, x: pair(x).mean(1), 6, *COUNTED),
    "mean that keeps": case(lambda s, x: pair(x) - pair(x).mean(dim=(1, 2), keepdim=True), 6, [], [2, 3]),
    "mean of all": case(lambda s, x: x * s.p.mean(), 6, [6], [4, 3], p=P),
    "nanmean": case(lambda s, x: pair(x).nanmean(1), 6, *COUNTED),
    "all": case(lambda s, x: (pair(x) > -0.3).all(1, True) * pair(x), 6, *COUNTED),
    "amax": case(lambda s, x: pair(x).amax(-2), 6, *COUNTED),
    "amin of several": case(lambda s, x: pair(x) - pair(x).amin((-1, -2), keepdim=True), 6, [], [2, 3]),
    "amax of all": case(lambda s, x: x * s.p.amax(), 6, [6], [4, 3], p=P),
    "var": case(lambda s, x: pair(x, 4).var(-1), 8, [2], [4]),
    "var without correction": case(lambda s, x: pair(x, 4).var(2, False), 8, [2], [4]),
    "var by keywords": case(lambda s, x: pair(x, 4).var(dim=-1, correction=0, keepdim=True), 8, [2], [4]),
    "var of all": case(lambda s, x: x * s.p.var(False), 6, [6], [4, 3], p=P),
    "std": case(lambda s, x: x / x.view(-1, 3, 4).std((1, 2), unbiased=False)[:, None], 12, [], [3, 4]),
    "var_mean": case(
        lambda s, x: torch.cat(torch.var_mean(x.view(-1, 3, 4), (1, 2), True, keepdim=True), 1), 12, [], [3, 4]),
    "std_mean of all": case(lambda s, x: x * sum(torch.std_mean(s.p, correction=0)), 6, [6], [4, 3], p=P),
    "prod": case(lambda s, x: pair(x).prod(-2), 6, *COUNTED),
    "logsumexp": case(lambda s, x: pair(x).logsumexp((1, 2), True) * pair(x), 6, [], [2, 3]),
    "max of all": case(lambda s, x: x * s.p.max(), 6, [6], [4, 3], p=P),
    "max along": case(lambda s, x: pair(x).max(-2, keepdim=True)[0], 6, *COUNTED),
    "max of two": case(lambda s, x: torch.max(x, s.p), 6, [6], p=nn.Parameter(torch.ones(6))),
    "max along one": case(lambda s, x: x[:, None].max(1, True)[0], 6, [6]),
    "place of the maximum": case(lambda s, x: pair(x).max(1, True)[1] * pair(x), 6, [3]),
    "median": case(lambda s, x: pair(x).median(1).values, 6, *COUNTED),
    "median of all": case(lambda s, x: x * s.p.median(), 6, [6], [4, 3], p=P),
    "mode": case(lambda s, x: pair(x).mode().values, 6, [2], [3]),
    "kthvalue": case(lambda s, x: pair(x).kthvalue(2, 1).values, 6, [3]),
    "kthvalue of the last": case(lambda s, x: pair(x).kthvalue(2).values, 6, [2]),
    "argmax": case(lambda s, x: pair(x).argmax(1, keepdim=True) * pair(x), 6, [3]),
    "argmin of all": case(lambda s, x: (1 + s.p.argmin()) * x, 6, [6], p=P),
    "cumsum": case(lambda s, x: pair(x).cumsum(1), 6, *COUNTED),
    "cumsum of tokens": case(lambda s, x: x.cumsum(dim=1), 6, [6], x=TOKENS),
    "cumprod": case(lambda s, x: pair(x).cumprod(-2), 6, [3]),
    "cummax": case(lambda s, x: pair(x).cummax(1).values, 6, [3]),
    "softmax": case(lambda s, x: pair(x).softmax(-2), 6, *COUNTED),
    "softmax of another type": case(lambda s, x: F.softmax(pair(x), dim=1, dtype=torch.float64), 6, *COUNTED),
    "softmax of channels": case(lambda s, x: nn.Softmax2d()(x), image(), [], [6], x=IMAGE),
    "log_softmax": case(lambda s, x: pair(x).log_softmax(1), 6, *COUNTED),
}  # fmt: skip

NORMS = {
    "batch norm": case(lambda s, x: s.b(x), image(), [6], x=IMAGE, b=nn.BatchNorm2d(6)),
    "batch norm of rows": case(lambda s, x: s.b(x), 6, [6], b=nn.BatchNorm1d(6)),
    "batch norm of lines": case(lambda s, x: s.b(x), line(), [6], x=LINE, b=nn.BatchNorm1d(6, affine=False)),
    "batch norm of volumes": case(
        lambda s, x: s.b(x), volume(), [6], x=VOLUME, b=nn.BatchNorm3d(6, track_running_stats=False)),
    "batch norm and a sum": case(lambda s, x: s.b(x).sum(1, True) * x, 6, [6], b=nn.BatchNorm1d(6)),
    "batch norm without weights and a sum": case(
        lambda s, x: s.b(x).sum(1, True) * x, 6, [], [6], b=nn.BatchNorm1d(6, affine=False)),
    "batch norm of the core": case(
        lambda s, x: torch.native_batch_norm(
            x, s.b.weight, s.b.bias, s.b.running_mean, s.b.running_var, False, 0.1, 1e-5)[0], image(), [6],
        x=IMAGE, b=nn.BatchNorm2d(6)),
    "instance norm": case(lambda s, x: s.b(x), image(), [6], x=IMAGE, b=nn.InstanceNorm2d(6, affine=True)),
    "instance norm with statistics": case(
        lambda s, x: s.b(x), line(), [6], x=LINE, b=nn.InstanceNorm1d(6, track_running_stats=True)),
    "instance norm without weights": case(
        lambda s, x: s.b(x).exp().sum(1), line(), [], [6], x=LINE, b=nn.InstanceNorm1d(6)),
    "layer norm": case(lambda s, x: s.b(x), 6, [], [6], b=nn.LayerNorm(6)),
    "layer norm of two dimensions": case(lambda s, x: s.b(pair(x)), 6, [], [2, 3], b=nn.LayerNorm((2, 3))),
    "layer norm of the last of two": case(lambda s, x: s.b(pair(x)), 6, [2], [3], b=nn.LayerNorm(3, bias=False)),
    "layer norm without weights": case(lambda s, x: F.layer_norm(x, normalized_shape=[6]), 6, [], [6]),
    "layer norm with only a bias": case(
        lambda s, x: F.layer_norm(x, (6,), bias=s.p), 6, [], [6], p=nn.Parameter(torch.ones(6))),
    "layer norm of the core": case(
        lambda s, x: torch.native_layer_norm(x, (6,), s.b.weight, s.b.bias, 1e-5)[0], 6, [], [6], b=nn.LayerNorm(6)),
    "RMS norm": case(lambda s, x: s.b(x), 6, [], [6], b=nn.RMSNorm(6)),
    "RMS norm without weights": case(lambda s, x: F.rms_norm(pair(x), (2, 3), eps=1e-3), 6, [], [2, 3]),
    "group norm": case(lambda s, x: s.b(x), image(), [2], [3], x=IMAGE, b=nn.GroupNorm(2, 6)),
    "group norm of rows": case(lambda s, x: s.b(x), 6, [2], [3], b=nn.GroupNorm(2, 6, affine=False)),
    "group norm with only a weight": case(
        lambda s, x: F.group_norm(x, 2, s.p), line(), [2], [3], x=LINE, p=nn.Parameter(torch.ones(6))),
    "group norm with only a bias": case(
        lambda s, x: F.group_norm(x, 2, bias=s.p), line(), [2], [3], x=LINE, p=nn.Parameter(torch.ones(6))),
    "group norm of one group": case(lambda s, x: s.b(x), line(), [], [6], x=LINE, b=nn.GroupNorm(1, 6)),
    "group norm of single channels": case(lambda s, x: s.b(x), line(), [6], x=LINE, b=nn.GroupNorm(6, 6)),
    "group norm of the core": case(
        lambda s, x: torch.native_group_norm(x, s.b.weight, s.b.bias, x.shape[0], 6, 16, 2, 1e-5)[0], image(), [2], [3],
        x=IMAGE, b=nn.GroupNorm(2, 6)),
    "norms of positions": case(  # whose number counts: four positions made of channels
        lambda s, x: F.group_norm(x.view(-1, 6, 4), 2) + F.instance_norm(x.view(-1, 6, 4)), 24, [2], [3, 4]),
    "batch norm of positions without statistics": case(
        lambda s, x: s.b(x.view(-1, 6, 4)), 24, [6], [4], b=nn.BatchNorm1d(6, track_running_stats=False)),
    "local response norm": case(lambda s, x: F.local_response_norm(x, 2), image(), x=IMAGE),
    "glu": case(lambda s, x: F.glu(x), 6, [3]),
    "glu of channels": case(lambda s, x: F.glu(x, dim=-3), image(), [3], x=IMAGE),
}  # fmt: skip

POOLS = {
    "max pool": case(lambda s, x: F.max_pool2d(x, 2), image(), [6], x=IMAGE),
    "max pool with places": case(lambda s, x: F.max_pool2d(x, 2, return_indices=True)[0], image(), [6], x=IMAGE),
    "max pool of a line": case(lambda s, x: F.max_pool1d(x, 2), line(), [6], x=LINE),
    "max pool over channels": case(lambda s, x: F.max_pool1d(x, 2), 6, x=TOKENS),
    "max pool of one line": case(lambda s, x: F.max_pool1d(x, 2), 6),
    "average pool": case(lambda s, x: F.avg_pool2d(x, 3, 1, 1), image(), [6], x=IMAGE),
    "average pool of a volume": case(lambda s, x: F.avg_pool3d(x, 2) * F.max_pool3d(x, 2), volume(), [6], x=VOLUME),
    "average pool of one image": case(
        lambda s, x: x * F.avg_pool2d(s.p, 3), image(), [6], x=IMAGE, p=nn.Parameter(torch.ones(6, 3, 3))),
    "adaptive average pool": case(lambda s, x: F.adaptive_avg_pool2d(x, (None, 1)), image(), [6], x=IMAGE),
    "adaptive average pool of the core": case(
        lambda s, x: torch.ops.aten._adaptive_avg_pool2d(x, [2, 1]), image(), [6], x=IMAGE),
    "adaptive average pool over channels": case(lambda s, x: F.adaptive_avg_pool1d(x, 2), 6, x=TOKENS),
    "adaptive max pool": case(lambda s, x: F.adaptive_max_pool2d(x, 2), image(), [6], x=IMAGE),
    "pool of squares": case(lambda s, x: F.lp_pool2d(x, 2, 2), image(), [6], x=IMAGE),
    "upsample": case(lambda s, x: F.interpolate(x, scale_factor=2), image(), [6], x=IMAGE),
    "upsample to a size": case(lambda s, x: F.interpolate(x, size=(5, 7), mode="bilinear"), image(), [6], x=IMAGE),
    "upsample bicubic": case(lambda s, x: F.interpolate(x, scale_factor=2, mode="bicubic"), image(), [6], x=IMAGE),
    "upsample a line": case(lambda s, x: F.interpolate(x, scale_factor=2, mode="linear"), line(), [6], x=LINE),
    "upsample a volume": case(lambda s, x: F.interpolate(x, size=3, mode="trilinear"), volume(), [6], x=VOLUME),
    "downsample": case(
        lambda s, x: F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True), image(), [6], x=IMAGE),
    "sample at places": case(
        lambda s, x: F.grid_sample(x, s.p.expand(x.shape[0], -1, -1, -1).tanh(), align_corners=False), image(), [6],
        x=IMAGE, p=nn.Parameter(torch.ones(1, 3, 3, 2))),
    "sample at places made of channels": case(
        lambda s, x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1).tanh(), align_corners=False), image(), [4],
        x=IMAGE),
}  # fmt: skip
CASES = {**SUMS, **COUNTS, **NORMS, **POOLS}


@pytest.mark.parametrize("name", CASES)
def test_what_is_free_can_go(name):
    case = CASES[name]
    assert prove(case) == (case.exact, case.inexact)
