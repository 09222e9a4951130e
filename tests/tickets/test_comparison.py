"""Comparisons: controls draw nothing that the ticket has, and shares are those of the whole network."""

import torch
from helpers.regression import Regression
from helpers.residual import resnet
from helpers.sparse import Clusters, program_of

import sparsify as sp
from sparsify.blocks import blocks
from sparsify.removal import remove
from sparsify.tickets.comparison import Comparison
from sparsify.tickets.initialization import initial
from sparsify.training.train import Trained


def comparison(whole, task=None, **options):
    given = {"unit": "weights", "criterion": "random", "batches": 8, **options}
    return Comparison("lth", task or Clusters(), 3, whole, **given)


def test_random_places_and_weights_are_others_than_those_of_a_random_ticket_with_the_same_seed():
    start = initial(program_of(), 3)
    ticket = sp.run(start, ["weight-prune:sparsity=0.5,criterion=random"], seed=3).program
    compare = comparison(start)
    control = compare.control("random", ticket, ticket, start=start, removed=0)
    for name, mask in ticket.masks.items():
        assert int(mask.sum()) == int(control.masks[name].sum())
        assert not torch.equal(mask, control.masks[name])
        assert not torch.equal(ticket.parameters[name], control.parameters[name])
    shuffled = compare.control("shuffle", ticket, ticket, start=start, removed=0)
    assert not torch.equal(shuffled.masks["2.weight"], ticket.masks["2.weight"])
    assert torch.equal(shuffled.parameters["2.weight"], start.parameters["2.weight"])


def test_other_places_are_chosen_by_the_pruned_weights_and_get_those_of_the_ticket():
    scored, start = program_of(1), program_of(2)
    pruned = sp.run(scored, ["weight-prune:sparsity=0.5,scope=layer"]).program
    ticket = sp.run(start, ["weight-prune:sparsity=0.5,scope=layer"]).program
    control = comparison(start, criterion="magnitude").control("invert", ticket, pruned, start=start, removed=0)
    for name, mask in control.masks.items():
        assert torch.equal(mask, ~pruned.masks[name])
        assert torch.equal(control.parameters[name], start.parameters[name])


def test_as_many_random_layers():
    program, task = resnet()[1], Regression((3, 8, 8), 3, count=3)
    ticket = remove(program, [block for block in blocks(program) if block.removable][:2])
    compare = comparison(program, task, unit="layers")
    control = compare.control("random", ticket, ticket, start=program, removed=2)
    assert len(blocks(program)) - len(blocks(control)) == 2
    assert control.history == program.history
    assert compare.control("dense", ticket, ticket, start=program, removed=2) is program


def test_an_entry_has_shares_of_the_whole_network():
    whole = program_of()
    ticket = sp.run(whole, ["weight-prune:sparsity=0.75"]).program
    curve = ({"step": 5, "validation_loss": 0.2}, {"step": 9, "validation_loss": 0.1})
    found = comparison(ticket).entry(2, Trained(ticket, (), curve))
    total = sum(value.numel() for value in whole.parameters.values())
    assert (found["round"], found["density"], found["first_steps_to_best"]) == (2, 0.25, 9)
    assert found["nonzero_share"] == (total - 720) / total
    assert found["macs_share"] == 1.0
