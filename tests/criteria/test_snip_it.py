import torch
from helpers.gates import TASK, hidden
from helpers.stats import channel_stats, measure, weight_stats

import sparsify as sp
from sparsify.criteria.snip import Snip
from sparsify.criteria.snip_it import SnipIt


def test_formula():
    stats = weight_stats([[1.0, -2.0]], sensitivity=[[-3.0, 0.5]])
    assert torch.equal(SnipIt().weight(stats), torch.tensor([[3.0, 0.5]]))
    assert torch.equal(SnipIt().channel(channel_stats(2, sensitivity=[-1.0, 2.0])), torch.tensor([1.0, 2.0]))
    assert SnipIt.rounds == 5


def test_single_weights_are_scored_as_by_snip():
    _, program, _ = hidden()
    measured = measure(program, (*SnipIt.needs, *Snip.needs), TASK)
    stats = measured.of_weight("a.weight")
    torch.testing.assert_close(SnipIt().weight(stats), Snip().weight(stats))


def test_a_channel_is_no_sum_of_absolute_weights():
    """Two outgoing weights whose effects cancel make a channel that the loss does not depend on."""
    model, program, signal = hidden()
    measured = measure(program, ("sensitivity", "gradient"), TASK, signals=[signal]).found
    incoming = (measured["gradient"]["b.weight"] * model.b.weight.detach()).sum(0)
    torch.testing.assert_close(measured["sensitivity"][signal.key], incoming)


def test_channel_prune_takes_a_channel_that_nobody_reads():
    model, program, _ = hidden()
    with torch.no_grad():
        model.b.weight[:, 3] = 0
    result = sp.run(program, ["channel-prune:sparsity=0.2,criterion=snip-it"], task=TASK)
    assert [int(i) for i in (~result.program.masks["a.weight"].any(1)).nonzero()] == [3]
