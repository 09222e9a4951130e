"""No rule can be wrong in silence: with a deliberately wrong one, the pass manager's own check stops `shrink`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.axes import removable
from helpers.marks import some
from helpers.models import Net
from helpers.random_attention import Attention, Recurrent
from helpers.random_steps import mystery
from helpers.zoo import randomize
from torch import nn

import sparsify as sp
from sparsify.axes import Axes, axes, rules
from sparsify.axes.axis import Axis, cut, product, total
from sparsify.axes.op import RULES, Op, key_of
from sparsify.errors import ContractError, PassError
from sparsify.groups import groups_of
from sparsify.masking import masked
from sparsify.program import Program
from sparsify.pruning.reference import member_masks

rules.load()


@dataclass(frozen=True)
class Mutant:
    """A wrong rule, and a network in which it matters.

    Attributes:
        operator: whose rule is replaced.
        wrong: makes the wrong rule out of the right one.
        how: the network, a function of its parts and of the input.
        parts: its layers.
        x: the shape of the input, without the batch.
        producers: mask only what makes a channel, not what uses it.
    """

    operator: str
    wrong: Callable[[Any], Any]
    how: Callable[..., Any]
    parts: dict[str, Any]
    x: tuple[int, ...]
    producers: bool = False

    def program(self) -> Program:
        """Capture the network, with random numbers everywhere."""
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            net = randomize(Net(self.how, **self.parts), 1).double().eval()
            return sp.capture(net, (torch.randn(2, *self.x, dtype=torch.float64),))


def mutant(operator, wrong, how, x, *, producers=False, **parts):
    return Mutant(operator if "::" in operator else f"aten::{operator}", wrong, how, parts, x, producers)


class Deaf(Op):
    """An operator of which the rule does not say one thing: the call `number` of the method `deaf_for`."""

    __slots__ = ("_count", "_deaf_for", "_number")

    def __init__(self, op: Op, deaf_for: str, number: int) -> None:
        super().__init__(op.node, op._dims, op._contents)
        self.facts, self._deaf_for, self._number, self._count = op.facts, deaf_for, number, 0

    def _skips(self, name: str) -> bool:
        self._count += name == self._deaf_for
        return name == self._deaf_for and self._count == self._number + 1

    def same(self, a, b):
        if not self._skips("same"):
            super().same(a, b)

    def broadcast_dims(self, operands):
        return list(max(operands, key=len)) if self._skips("broadcast_dims") else super().broadcast_dims(operands)


def forgets(method: str, number: int = 0):
    """The rule does not say, for once, that two dimensions are the same."""
    return lambda rule: lambda op: rule(Deaf(op, method, number))


def drops(fact: str):
    """The rule leaves out some of the facts."""

    def wrong(rule):
        def ruled(op):
            result = rule(op)
            getattr(op.facts, fact).clear()
            return result

        return ruled

    return wrong


def instead(operator: str):
    """The rule of another operator."""
    return lambda rule: RULES[f"aten::{operator}"]


def ruled(function):
    """A wrong rule, written out."""
    return lambda rule: function


def cat_reversed(op):
    values, dim = op.arg(0), op.arg(1, "dim", 0)
    op.zero_where(parts=values)
    result = list(op.dims(values[0]))
    result[dim] = total([op.dims(value)[dim] for value in values[::-1]])
    return result


def view_reversed(op):
    dims, sizes = op.dims(op.arg(0)), op.shape
    slow, fast = Axis(sizes[-2]), Axis(sizes[-1])
    op.same(dims[-1], product([fast, slow]))
    op.zero_where(op.arg(0))
    op.size_at(1, result := [*dims[:-1], slow, fast])
    return result


def slice_off_by_one(op):
    dims, dim, start = list(op.dims(op.arg(0))), op.arg(1), op.arg(2)
    op.zero_where(op.arg(0))
    if op.shape[dim] == dims[dim].size or dims[dim].dynamic:
        return dims
    size = op.shape[dim]
    before, inside, _ = cut(dims[dim], [start - 1, size, dims[dim].size - size - start + 1])

    def fix(resizing):
        at = resizing.size(before)
        resizing.node.args = (resizing.node.args[0], dim, at, at + resizing.size(inside))

    op.fix([before, inside], fix)
    dims[dim] = inside
    return dims


def swapped_parts(op):
    dims = op.dims(op.arg(0))
    second, first = cut(dims[1], [6, 6])
    op.zero_where(op.arg(0))
    return [dims[0], first], [dims[0], second]


def interleaved_as_repeated(op):
    dims, dim = list(op.dims(op.arg(0))), op.arg(2, "dim")
    dims[dim] = product([Axis(op.arg(1), "it is a copy"), dims[dim]])
    op.zero_where(op.arg(0))
    return dims


def shuffle_reversed(op):
    *batch, channel, height, width = op.dims(op.arg(0))
    square, inner = Axis(4, "it is a position in space"), Axis(channel.size // 4)
    op.same(channel, product([square, inner]))
    op.zero_where(op.arg(0))
    return [*batch, inner, *(Axis(axis.size * 2, "it is a position in space") for axis in (height, width))]


def padded_behind(op):
    dims = list(op.dims(op.arg(0)))
    amounts = op.arg(1)
    dims[-1] = total([dims[-1], Axis(amounts[0], "it is padded")])
    op.zero_where(parts=[op.arg(0)])
    return dims


def einsum_transposed(op):
    x, weight = op.arg(1)
    (batch, inner), (first, second) = op.dims(x), op.dims(weight)
    op.same(inner, first)
    op.sums([first], x, weight)
    op.zero_where(weight)
    return [batch, second]


def gates_inside(rule):
    return lambda op: rule(GatesInside(op, "", 0))


class GatesInside(Deaf):
    """Takes the rows of a recurrent layer's weights for hidden x gates."""

    __slots__ = ()

    def same(self, a, b):
        super().same(a, product(b.parts[::-1]) if b.kind == "product" else b)


def heads(s, x):
    q, k, v = (layer(x).view(x.shape[0], 5, 3, 4).transpose(1, 2) for layer in (s.q, s.k, s.v))
    return s.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape[0], 5, 12)).sum(1)


def conv_stack(**more):
    return {"a": nn.Conv2d(3, 6, 3, **more), "b": nn.Conv2d(6, 4, 3, padding=1, **more), "head": nn.Linear(4, 3)}


def convs(s, x):
    return s.head(torch.relu(s.b(torch.relu(s.a(x)))).mean((2, 3)))


def pair(s, x):
    return s.b(s.act(s.a(x)))


def linears(width=6, out=3, read=None, **more):
    return {"a": nn.Linear(5, width), "b": nn.Linear(read or width, out), **more}


IMAGE = (3, 6, 6)
MUTANTS = {
    "conv forgets the input channel": mutant("conv2d", forgets("same", 0), convs, IMAGE, **conv_stack()),
    "conv forgets the bias": mutant("conv2d", forgets("same", 1), convs, IMAGE, **conv_stack()),
    "linear forgets the bias": mutant("linear", forgets("broadcast_dims"), pair, (5,), act=torch.relu, **linears()),
    "linear forgets the input": mutant("linear", forgets("same"), pair, (5,), act=torch.relu, **linears()),
    "batch norm forgets the running mean": mutant(
        "batch_norm", forgets("broadcast_dims", 2), lambda s, x: s.b(s.norm(s.a(x))), (5,), norm=nn.BatchNorm1d(6),
        **linears()),
    "depthwise groups are not resized": mutant(
        "conv2d", drops("sizes"), lambda s, x: s.head(s.b(s.mid(s.a(x))).mean((2, 3))), IMAGE,
        mid=nn.Conv2d(6, 6, 3, padding=1, groups=6), **conv_stack()),
    "view in the wrong order": mutant(
        "view", ruled(view_reversed), lambda s, x: s.b(torch.tanh(s.a(x).view(-1, 3, 4) * s.p).sum(1)), (5,),
        p=nn.Parameter(torch.ones(3, 4)), **linears(12, read=4)),
    "cat in reverse order": mutant(
        "cat", ruled(cat_reversed), lambda s, x: s.b(torch.cat([s.a(x), s.c(x)], 1)), (5,), c=nn.Linear(5, 6),
        **linears(6, read=12)),
    "sigmoid keeps zeros": mutant(
        "sigmoid", instead("relu"), lambda s, x: s.b(s.a(x).sigmoid() * x[:, :1]), (5,), producers=True, **linears()),
    "an addition keeps the zeros of one side": mutant(
        "add", instead("mul"), lambda s, x: s.b(torch.relu(s.a(x) + x[:, :1])), (5,), producers=True, **linears()),
    "layer norm counts nothing": mutant(
        "layer_norm", drops("counts"), pair, (5,), act=nn.LayerNorm(6), **linears()),
    "layer norm's shape is not written": mutant(
        "layer_norm", lambda rule: drops("sizes")(drops("counts")(rule)), pair, (5,), act=nn.LayerNorm(6),
        **linears()),
    "RMS norm counts nothing": mutant("rms_norm", drops("counts"), pair, (5,), act=nn.RMSNorm(6), **linears()),
    "group norm counts nothing": mutant("group_norm", drops("counts"), pair, (5,), act=nn.GroupNorm(2, 6), **linears()),
    "softmax counts nothing": mutant("softmax", drops("counts"), pair, (5,), act=nn.Softmax(-1), **linears()),
    "attention's scale is not written": mutant("scaled_dot_product_attention", drops("fixes"), heads, (5, 8),
        q=nn.Linear(8, 12), k=nn.Linear(8, 12), v=nn.Linear(8, 12), out=nn.Linear(12, 3)),
    "slice off by one": mutant(
        "slice", ruled(slice_off_by_one), lambda s, x: s.b(s.a(x)[:, 2:5]), (5,), **linears(8, read=3)),
    "halves change places": mutant(
        "chunk", ruled(swapped_parts), lambda s, x: s.b(s.a(x).chunk(2, 1)[0]) + s.c(s.a(x).chunk(2, 1)[1].tanh()),
        (5,), c=nn.Linear(6, 3), **linears(12, read=6)),
    "GLU forgets that its halves go together": mutant("glu", forgets("same"), pair, (5,), act=nn.GLU(),
                                                      **linears(12, read=6)),
    "keys are repeated in the wrong order": mutant(
        "repeat_interleave", ruled(interleaved_as_repeated), lambda s, x: s.out(s.attention(x, x)).sum(1), (5, 8),
        attention=Attention(8, 8, heads=3, shared_by=2, size=4, how="softmax"), out=nn.Linear(8, 3)),
    "a mean is taken for a sum": mutant(
        "mean", instead("sum"), lambda s, x: s.b(x) * torch.relu(s.a(x)).mean(1, keepdim=True), (5,),
        **linears(6, read=5)),
    "a maximum is taken for a sum": mutant(
        "amax", instead("sum"), lambda s, x: s.b(x) * (-s.a(x).abs()).amax(1, keepdim=True), (5,),
        **linears(6, read=5)),
    "pixel shuffle in the wrong order": mutant(
        "pixel_shuffle", ruled(shuffle_reversed), lambda s, x: s.head(s.b(F.pixel_shuffle(s.a(x), 2)).mean((2, 3))),
        IMAGE, a=nn.Conv2d(3, 12, 1), b=nn.Conv2d(3, 4, 1), head=nn.Linear(4, 3)),
    "padded channels are on the other side": mutant(
        "pad", ruled(padded_behind), lambda s, x: s.b(F.pad(s.a(x), (2, 0))), (5,), **linears(6, read=8)),
    "a transposition is none": mutant(
        "transpose", ruled(lambda op: op.dims(op.arg(0))),
        lambda s, x: s.b((s.a(x) @ s.c(x).transpose(1, 2)).flatten(1)), (6, 5), c=nn.Linear(5, 6),
        **linears(6, read=36)),
    "an einsum is another one": mutant(
        "einsum", ruled(einsum_transposed), lambda s, x: s.b(torch.einsum("bi,ji->bj", s.a(x), s.p)), (5,),
        p=nn.Parameter(torch.ones(6, 6)), **linears(6)),
    "an expansion keeps its size": mutant(
        "expand", drops("sizes"), lambda s, x: s.b(s.a(x)[:, None] * s.p.expand(x.shape[0], 4, 6)).sum(1), (5,),
        p=nn.Parameter(torch.ones(6)), **linears(6)),
    "an unknown operator is elementwise": mutant(
        "theorem::mystery", ruled(lambda op: op.broadcast(op.arg(0))), lambda s, x: s.b(mystery(s.a(x))), (5,),
        **linears()),
    "gates lie inside of hidden units": mutant(
        "lstm", gates_inside, lambda s, x: s.b(s.a(x)).sum(1), (4, 5), a=Recurrent(nn.LSTM(5, 4, batch_first=True)),
        b=nn.Linear(4, 3)),
}  # fmt: skip

PLAIN = (
    "conv forgets the bias", "linear forgets the input", "batch norm forgets the running mean",
    "view in the wrong order", "sigmoid keeps zeros", "layer norm counts nothing", "slice off by one",
    "attention's scale is not written", "a mean is taken for a sum", "an unknown operator is elementwise",
)  # fmt: skip


def masks(mutant: Mutant, typed: Axes) -> dict[str, torch.Tensor]:
    """Mask half of all groups that can be removed exactly, as far as the rules know; another half of each."""
    generator = torch.Generator().manual_seed(0)
    keep = {}
    for group in removable(groups_of(typed)):
        if group.exact:
            keep[group.axis] = torch.randperm(group.size, generator=generator) < max(group.least, group.size // 2)
    found = member_masks(typed, keep)
    return {name: mask for name, mask in found.items() if not mutant.producers or name.startswith("a.")}


@pytest.mark.parametrize("name", some(PLAIN, MUTANTS))
def test_the_manager_stops_a_wrong_rule(name, monkeypatch):
    mutant = MUTANTS[name]
    program = mutant.program()
    assert any(key_of(node) == mutant.operator for node in program.graph.nodes)
    sp.run(masked(program, masks(mutant, axes(program))), ["shrink"])
    monkeypatch.setitem(RULES, mutant.operator, mutant.wrong(RULES.get(mutant.operator)))
    wrong = masked(program, masks(mutant, axes(program)))
    with pytest.raises((PassError, ContractError)):
        sp.run(wrong, ["shrink"])
