import pytest
import torch
from helpers.axes import case, prove
from torch import nn
from torch.nn import functional as F

IMAGE, LINE, TOKENS = (2, 4, 4), (2, 5), (3, 5)


def p(*shape):
    return nn.Parameter(torch.ones(shape))


def image(out=6):
    return nn.Conv2d(2, out, 1)


def line(out=6):
    return nn.Conv1d(2, out, 1)


W = p(6, 4)
GROUPED = {"stem": nn.Conv2d(2, 6, 1), "x": IMAGE, "b": nn.Conv2d(6, 4, 3, groups=2)}
GROUPED_T = {**GROUPED, "b": nn.ConvTranspose2d(6, 4, 3, stride=2, output_padding=1, groups=2)}
FORMS = [[1, 1], [0, 0], [1, 1]]  # stride, padding, dilation

CASES = {
    "linear": case(lambda s, x: s.b(x), 6, [6, 4], b=nn.Linear(6, 4)),
    "linear without bias": case(lambda s, x: s.b(x), 6, [6, 4], x=TOKENS, b=nn.Linear(6, 4, bias=False)),
    "linear to one": case(lambda s, x: s.b(x), 6, [6], b=nn.Linear(6, 1)),
    "linear from one": case(lambda s, x: s.b(x), 1, [4], b=nn.Linear(1, 4)),
    "linear by keywords": case(
        lambda s, x: F.linear(input=x, weight=s.b.weight, bias=s.b.bias), 6, [6, 4], b=nn.Linear(6, 4)),
    "linear with one bias for all": case(
        lambda s, x: F.linear(x, s.b.weight, s.p), 6, [6, 4], b=nn.Linear(6, 4, bias=False), p=p(1)),
    "linear of one vector": case(lambda s, x: x * F.linear(s.p, s.w), 4, [4, 6], w=p(4, 6), p=p(6)),
    "linear with a vector": case(lambda s, x: F.linear(x, s.w)[:, None], 6, [6], w=p(6)),
    "linear with an activation": case(lambda s, x: F.linear(x.tanh(), s.b(x)), 6, [6], b=nn.Linear(6, 6)),
    "matmul": case(lambda s, x: x @ s.w, 6, [6, 4], w=W),
    "matmul with a vector": case(lambda s, x: (x @ s.w)[:, None], 6, [6], w=p(6)),
    "matmul of a vector": case(lambda s, x: x * (s.v @ s.w), 4, [6, 4], w=W, v=p(6)),
    "matmul of a vector and batches": case(lambda s, x: s.w @ x.view(-1, 2, 3), 6, [2, 3], w=p(2)),
    "matmul of two vectors": case(lambda s, x: x * (s.v @ s.w), 4, [6, 4], w=p(6), v=p(6)),
    "matmul of batches and a vector": case(lambda s, x: x.view(-1, 2, 3) @ s.w, 6, [3, 2], w=p(3)),
    "matmul of other ranks": case(lambda s, x: x.view(-1, 2, 1, 3) @ s.w, 6, [2, 3, 4], w=p(2, 3, 4)),
    "matmul that broadcasts": case(lambda s, x: x.view(-1, 2, 1, 3) @ s.w, 6, [3, 4, 2], w=p(1, 1, 3, 4)),
    "matmul over one": case(lambda s, x: x[:, :, None] @ s.w, 6, [4, 6], w=p(1, 4)),
    "mm": case(lambda s, x: torch.mm(x, s.w), 6, [6, 4], w=W),
    "mv": case(lambda s, x: torch.mv(x, s.w)[:, None], 6, [6], w=p(6)),
    "dot": case(lambda s, x: x * torch.dot(s.v, s.w), 4, [6, 4], w=p(6), v=p(6)),
    "vdot": case(lambda s, x: x * torch.vdot(s.v, s.w), 4, [6, 4], w=p(6), v=p(6)),
    "bmm": case(
        lambda s, x: torch.bmm(s.q(x), s.k(x).transpose(1, 2)), 6, [6, 4], x=TOKENS, q=nn.Linear(6, 4),
        k=nn.Linear(6, 4)),
    "addmm": case(lambda s, x: torch.addmm(s.p, x, s.w), 6, [6, 4], w=W, p=p(4)),
    "addmm with factors": case(
        lambda s, x: torch.addmm(input=s.p, mat1=x, mat2=s.w, alpha=2, beta=0.5), 6, [6, 4], w=W, p=p(1, 4)),
    "addmm without its bias": case(lambda s, x: torch.addmm(s.p, x, s.w, beta=0), 6, [6, 4], w=W, p=p(4)),
    "addmm with one bias for all": case(lambda s, x: torch.addmm(s.p, x, s.w), 6, [6, 4], w=W, p=p(1)),
    "addmv": case(lambda s, x: torch.addmv(s.p, x, s.w)[:, None], 6, [6], w=p(6), p=p(1)),
    "baddbmm": case(
        lambda s, x: torch.baddbmm(s.p.expand(x.shape[0], 2, 4), x.view(-1, 2, 3), s.w.expand(x.shape[0], 3, 4)),
        6, [3, 4, 2], w=p(1, 3, 4), p=p(2, 4)),
    "bilinear": case(
        lambda s, x: s.b(x, s.c(x)), 6, [6, 4, 5], b=nn.Bilinear(6, 5, 4), c=nn.Linear(6, 5)),
    "bilinear without bias": case(
        lambda s, x: s.b(x, x.tanh()), 6, [6, 4], x=TOKENS, b=nn.Bilinear(6, 6, 4, bias=False)),
    "conv": case(lambda s, x: s.b(x), image(), [6, 4], x=IMAGE, b=nn.Conv2d(6, 4, 3)),
    "conv without bias": case(
        lambda s, x: s.b(x), image(), [6, 4], x=IMAGE, b=nn.Conv2d(6, 4, 3, stride=2, padding=1, bias=False)),
    "conv dilated": case(lambda s, x: s.b(x), image(), [6, 4], x=IMAGE, b=nn.Conv2d(6, 4, 2, dilation=2)),
    "conv same": case(lambda s, x: s.b(x), image(), [6, 4], x=IMAGE, b=nn.Conv2d(6, 4, 3, padding="same")),
    "conv circular": case(
        lambda s, x: s.b(x), image(), [6, 4], x=IMAGE, b=nn.Conv2d(6, 4, 3, padding=1, padding_mode="circular")),
    "conv of one line": case(lambda s, x: s.b(x), line(), [6, 4], x=LINE, b=nn.Conv1d(6, 4, 3)),
    "conv of one image": case(lambda s, x: x * s.b(s.p), image(4), [6, 4], x=IMAGE, b=nn.Conv2d(6, 4, 1), p=p(6, 4, 4)),
    "conv from one channel": case(lambda s, x: s.b(x), image(1), [4], x=IMAGE, b=nn.Conv2d(1, 4, 3)),
    "conv with groups": case(lambda s, x: s.b(x), exact=[2, 3, 2], **GROUPED),
    "conv with groups by keyword": case(lambda s, x: F.conv2d(x, s.b.weight, groups=2), exact=[2, 3, 2], **GROUPED),
    "conv with groups, same": case(
        lambda s, x: F.conv2d(x, s.b.weight, None, 1, "same", 1, 2), exact=[2, 3, 2], **GROUPED),
    "conv with groups of one": case(
        lambda s, x: s.b(x), nn.Conv3d(2, 6, 1), [2, 3], x=(2, 3, 3, 3), b=nn.Conv3d(6, 2, 2, groups=2)),
    "conv depthwise": case(lambda s, x: s.b(x), image(), [6], x=IMAGE, b=nn.Conv2d(6, 6, 3, groups=6)),
    "conv depthwise, two of each": case(
        lambda s, x: s.b(x), image(), [6, 2], x=IMAGE, b=nn.Conv2d(6, 12, 3, groups=6)),
    "conv in general": case(
        lambda s, x: torch.convolution(x, s.b.weight, s.b.bias, *FORMS, False, [0, 0], 2), exact=[2, 3, 2], **GROUPED),
    "conv in general, transposed": case(
        lambda s, x: torch.convolution(x, s.b.weight, s.b.bias, *FORMS, True, [0, 0], 2), exact=[2, 3, 2],
        **GROUPED_T),
    "conv by a computed kernel": case(
        lambda s, x: F.conv2d(x, (s.w * s.g).expand(4, 6, 2, 2)), image(), [4, 6], x=IMAGE, w=p(4, 6, 1, 1),
        g=p(4, 1, 1, 1)),
    "conv 1x1 leaves positions alone": case(
        lambda s, x: s.b(x.view(-1, 6, 4)), 24, [6, 4, 5], b=nn.Conv1d(6, 5, 1)),
    "conv 1x1 with padding": case(
        lambda s, x: s.b(x.view(-1, 6, 4)), 24, [6, 5], b=nn.Conv1d(6, 5, 1, padding=1)),
    "conv 1x1 that moves positions": case(  # 3 positions are padded to 5, of which every second one stays: 3
        lambda s, x: s.b(x.view(-1, 6, 3)), 18, [6, 5], b=nn.Conv1d(6, 5, 1, stride=2, padding=1)),
    "conv 3x3 moves positions": case(
        lambda s, x: s.b(x.view(-1, 6, 4)), 24, [6, 5], b=nn.Conv1d(6, 5, 3, padding=1)),
    "conv transposed": case(lambda s, x: s.b(x), image(), [6, 4], x=IMAGE, b=nn.ConvTranspose2d(6, 4, 2, dilation=2)),
    "conv transposed with groups": case(lambda s, x: s.b(x), exact=[2, 3, 2], **GROUPED_T),
    "conv transposed depthwise": case(
        lambda s, x: s.b(x), image(), [6, 2], x=IMAGE, b=nn.ConvTranspose2d(6, 12, 3, groups=6, bias=False)),
    "conv transposed of a line": case(lambda s, x: s.b(x), line(), [6, 4], x=LINE, b=nn.ConvTranspose1d(6, 4, 3)),
    "conv transposed of a volume": case(
        lambda s, x: s.b(x), nn.Conv3d(2, 6, 1), [6, 4], x=(2, 3, 3, 3), b=nn.ConvTranspose3d(6, 4, 1)),
    "einsum": case(lambda s, x: torch.einsum(" b i , i O -> b O ", x, s.w), 6, [6, 4], w=W),
    "einsum without an arrow": case(lambda s, x: torch.einsum("bz,zA", x, s.w).t(), 6, [6, 4], w=W),
    "einsum by numbers": case(lambda s, x: torch.einsum(x, [0, 1], s.w, [1, 2], [0, 2]), 6, [6, 4], w=W),
    "einsum with dots": case(lambda s, x: torch.einsum("...i,io->...o", x, s.w), 6, [6, 4], x=TOKENS, w=W),
    "einsum with dots, without an arrow": case(
        lambda s, x: torch.einsum("...i,io", x, s.w), 6, [6, 4], x=TOKENS, w=W),
    "einsum with dots of other ranks": case(
        lambda s, x: torch.einsum("...i,...io->...o", x.view(-1, 2, 3), s.w), 6, [2, 3, 4], w=p(2, 3, 4)),
    "einsum with dots that broadcast": case(
        lambda s, x: torch.einsum("...i,...i->...i", x.view(-1, 2, 3), s.w), 6, [3, 2], w=p(1, 3)),
    "einsum that broadcasts": case(lambda s, x: torch.einsum("bi,i->bi", x, s.w), 6, [6], w=p(1)),
    "einsum of a diagonal": case(lambda s, x: torch.einsum("bii->bi", x.view(-1, 3, 3)), 9, [3]),
    "einsum of a trace": case(lambda s, x: torch.einsum("bii->b", x.view(-1, 3, 3))[:, None], 9, [3]),
    "einsum that sums": case(lambda s, x: torch.einsum("bij->bj", x.view(-1, 2, 3)), 6, [2, 3]),
    "einsum of a sigmoid that sums": case(
        lambda s, x: torch.einsum("bij->bj", x.view(-1, 2, 3).sigmoid()), 6, [3], [2]),
    "einsum of three": case(
        lambda s, x: torch.einsum("bi,ij,bj->bj", x, s.w, s.b(x)), 6, [6, 4], w=W, b=nn.Linear(6, 4)),
}  # fmt: skip


def heads(x, count):
    return x.view(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


def attention(count=2, shared=None, **options):
    """Return an operation: attention over heads of projections q, k and v; its parts are tokens' widths."""

    def op(s, x):
        mask = getattr(s, "mask", None)
        q, k, v = heads(s.q(x), count), heads(s.k(x), shared or count), heads(s.v(x), shared or count)
        return F.scaled_dot_product_attention(q, k, v, mask, **options).transpose(1, 2).flatten(2)

    return op


def attend(op, exact, inexact=(), widths=(6, 6, 8), **parts):
    q, k, v = (nn.Linear(6, width) for width in widths)
    return case(op, 6, exact, inexact, x=TOKENS, q=q, k=k, v=v, **parts)


def by_hand(s, x):
    q, k, v = (heads(part(x), 2) for part in (s.q, s.k, s.v))
    return ((q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)


def learned(is_causal):
    """Queries from tokens, keys and values from seven learned vectors."""

    def op(s, x):
        k, v = (part(s.p).expand(x.shape[0], -1, -1) for part in (s.k, s.v))
        return F.scaled_dot_product_attention(s.q(x), k, v, is_causal=is_causal)

    return op


def one_key(s, x):
    """Two heads of queries share one of keys and values, which broadcasts or is repeated."""
    q, k, v = heads(s.q(x), 2), heads(s.k(x), 1), heads(s.v(x), 1)
    return F.scaled_dot_product_attention(q, k, v.expand(-1, 2, -1, -1)).transpose(1, 2).flatten(2)


def multihead(**options):
    return nn.MultiheadAttention(6, 2, **options)


ATTENTION = {  # free are: the stem's channels, heads, query-key channels of a head, value channels of a head
    "plain": attend(attention(), [6, 2, 3, 4]),
    "causal": attend(attention(is_causal=True), [6, 2, 3, 4]),
    "with a scale": attend(attention(scale=0.7), [6, 2, 3, 4]),
    "with a mask for each head": attend(attention(), [2, 6, 3, 4], mask=p(1, 2, 1, 3)),
    "with a mask for all": attend(attention(), [6, 2, 3, 4], mask=torch.ones(3, 3, dtype=torch.bool).tril()),
    "with one head": attend(attention(1), [6, 6, 8]),
    "without heads": attend(lambda s, x: F.scaled_dot_product_attention(s.q(x), s.k(x), s.v(x)), [6, 6, 8]),
    "groups": attend(attention(4, 2, enable_gqa=True), [6, 2, 2, 3, 4], widths=(12, 6, 8)),
    "groups, with a mask": attend(
        attention(4, 2, enable_gqa=True), [2, 2, 6, 3, 4], widths=(12, 6, 8), mask=p(4, 3, 3)),
    "one group": attend(attention(4, 1, enable_gqa=True), [6, 4, 3, 5], widths=(12, 3, 5)),
    "as many groups as heads": attend(attention(2, 2, enable_gqa=True), [6, 2, 3, 4]),
    "heads of one channel": attend(attention(4, 2, enable_gqa=True), [6, 2, 2, 4], widths=(4, 2, 8)),
    "one key for all": attend(one_key, [6, 2, 4, 3], widths=(8, 4, 3)),
    "learned keys": attend(learned(False), [6, 6, 6, 8], [7], p=p(1, 7, 6)),
    "learned keys, causal": attend(learned(True), [6, 6, 6, 8], p=p(1, 7, 6)),
    "by hand": attend(by_hand, [6, 2, 3, 4]),
    "MultiheadAttention, whose queries, keys and values lose the same channels": case(
        lambda s, x: s.b(x, x, x, need_weights=False)[0], 6, [6, 2, 3, 6], x=TOKENS, b=multihead(batch_first=True)),
    "MultiheadAttention's weights": case(
        lambda s, x: s.b(x, x, x)[1], 6, [6, 3], [2], x=TOKENS, b=multihead(batch_first=True)),
    "MultiheadAttention of other keys": case(
        lambda s, x: s.b(x, s.c(x), s.c(x))[0], 6, [6, 5, 2, 3, 3, 6], x=TOKENS, c=nn.Linear(6, 5),
        b=multihead(batch_first=True, kdim=5, vdim=5)),
    "MultiheadAttention, batch in the middle": case(
        lambda s, x: s.b(x.mT.permute(2, 0, 1), x.transpose(0, 1), x.transpose(0, 1))[0].transpose(0, 1), 6,
        [6, 2, 3, 3, 6], x=TOKENS, b=multihead()),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTENTION)
def test_what_is_free_in_attention_can_go(name):
    case = ATTENTION[name]
    assert prove(case) == (case.exact, case.inexact)


@pytest.mark.parametrize("name", CASES)
def test_what_is_free_can_go(name):
    case = CASES[name]
    assert prove(case) == (case.exact, case.inexact)
