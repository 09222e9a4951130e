import time
from itertools import count

import pytest
import torch
from helpers.command import small_program
from torch import nn

import sparsify as sp
from sparsify.module_times import REST, module_times, owners


def test_every_module_and_the_rest_have_a_time():
    program = small_program()
    (found,) = module_times([program], seconds=0)
    modules = {name.rpartition(".")[0] for name in program.parameters}
    assert found.keys() == modules | {REST}
    assert all(value > 0 for value in found.values())


def test_a_slow_module_takes_the_time(monkeypatch):
    program = small_program()
    plain = torch.fx.Interpreter.run_node

    def slow(self, node):
        if any(getattr(source, "target", "") == "layer1.0.conv1.weight" for source in node.all_input_nodes):
            time.sleep(0.02)
        return plain(self, node)

    monkeypatch.setattr(torch.fx.Interpreter, "run_node", slow)
    (found,) = module_times([program], seconds=0)
    assert found["layer1.0.conv1"] >= 20
    assert max(found, key=found.get) == "layer1.0.conv1"


def test_what_only_some_runs_wait_for_does_not_count(monkeypatch):
    program = small_program()
    first = next(node.name for node in program.graph.nodes if node.op == "call_function")
    plain, calls = torch.fx.Interpreter.run_node, count()

    def disturbed(self, node):
        if node.name == first and next(calls) % 5 != 3:  # such as threads that wake up
            time.sleep(0.02)
        return plain(self, node)

    monkeypatch.setattr(torch.fx.Interpreter, "run_node", disturbed)
    (found,) = module_times([program], seconds=0)
    assert sum(found.values()) < 20


@pytest.mark.parametrize(("rows", "threads"), [(2, 1), (1200, 2)])
def test_all_but_large_models_wait_for_no_second_thread(monkeypatch, rows, threads):
    program = sp.capture(nn.Linear(2048, 2048), (torch.randn(rows, 2048),), dynamic_batch=False)
    plain, seen = torch.fx.Interpreter.run_node, set()

    def watched(self, node):
        seen.add(torch.get_num_threads())
        return plain(self, node)

    monkeypatch.setattr(torch.fx.Interpreter, "run_node", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        module_times([program], seconds=0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == {threads}


def test_programs_are_left_as_they_are():
    program = small_program()
    before = {name: value.clone() for name, value in {**program.parameters, **program.buffers}.items()}
    module_times([program, sp.run(program, ["layer-prune"]).program], seconds=0)
    assert all(torch.equal(value, before[name]) for name, value in {**program.parameters, **program.buffers}.items())


@pytest.mark.parametrize("masked", [False, True])
def test_operators_belong_to_the_module_whose_weights_they_read(masked):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.two(self.one(x).relu()) @ self.one.weight

    program = sp.capture(Net(), (torch.randn(2, 4),))
    if masked:
        program = sp.run(program, ["weight-prune:sparsity=0.5"]).program
    found = owners(program.graph, list(program.parameters))
    by_operator = [(found[node.name], str(node.target)) for node in program.graph.nodes if node.op == "call_function"]
    assert [owner for owner, target in by_operator if "linear" in target] == ["one", "two"]
    assert [owner for owner, target in by_operator if "relu" in target] == [REST]
    assert [owner for owner, target in by_operator if "matmul" in target] == ["one"]
    assert {owner for owner, target in by_operator if "where" in target} == ({"one", "two"} if masked else set())
