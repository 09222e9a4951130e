"""A program as a module in pieces."""

import torch
from torch import nn
from torch.testing import assert_close

import sparsify as sp
from sparsify.graph import aten
from sparsify.parallel.sharded_module import ShardedModule


def module_of(rewrite=lambda graph: None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 6))
    program = sp.capture(model, (torch.randn(3, 6),))
    return program, ShardedModule(program, rewrite, least=10)


def test_it_has_the_names_of_the_program():
    program, module = module_of()
    assert list(dict(module.named_parameters())) == list(program.parameters)
    assert sorted(dict(module.named_buffers())) == sorted(program.buffers)
    again = program.with_state(module)
    assert_close(dict(again.parameters), dict(program.parameters), rtol=0, atol=0)


def test_it_switches_between_its_forms_and_leaves_the_program_alone():
    program, module = module_of()
    x = torch.randn(5, 6)
    before = {name: value.clone() for name, value in program.buffers.items()}
    module.train()(x)
    assert not torch.equal(dict(module.named_buffers())["1.running_mean"], before["1.running_mean"])
    assert_close(dict(program.buffers), before, rtol=0, atol=0)
    module.eval()
    assert_close(module(x), module(x), rtol=0, atol=0)
    assert_close(module(x), program.with_state(module).module()(x), rtol=0, atol=0)


def test_only_the_training_form_is_rewritten():
    def rewrite(graph):
        for node in graph.nodes:
            if node.target is aten.relu.default or node.target is aten.linear.default:
                node.target = lambda x, *rest: torch.zeros(len(x), rest[0].shape[0])

    _, module = module_of(rewrite)
    x = torch.randn(5, 6)
    assert int(module.train()(x).count_nonzero()) == 0
    assert int(module.eval()(x).count_nonzero()) > 0
