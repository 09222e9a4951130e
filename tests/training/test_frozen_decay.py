"""Frozen values that decay as one."""

import torch
from helpers.sparse import program_of

import sparsify as sp
from sparsify.freezing import frozen_draws, thawed
from sparsify.training.frozen_decay import decaying, settled
from sparsify.verify import outputs


def frozen_program(base):
    return sp.run(program_of(), ["redraw", f"freeze:sparsity=0.5,base={base}"]).program


def test_at_first_it_is_the_same_function_and_the_factor_has_no_gradient():
    for base in ("seed", "stored"):
        before = frozen_program(base)
        program = decaying(before)
        assert torch.equal(outputs(program)[0], outputs(before)[0])
        module = program.module(training=True)
        module(program.example.args[0]).square().sum().backward()
        assert module.get_parameter("sparsify_decay").grad.tolist() == [[0.0]]
        after, factor = settled(program)
        assert factor == 1.0
        assert frozen_draws(after) == frozen_draws(before)
        assert torch.equal(outputs(after)[0], outputs(before)[0])


def test_settled_bases_are_smaller():
    for base in ("seed", "stored"):
        program = decaying(frozen_program(base))
        with torch.no_grad():
            program.parameters["sparsify_decay"].fill_(0.25)
        after, factor = settled(program)
        assert factor == 0.25
        assert "sparsify_decay" not in after.parameters
        for name, mask in after.frozen.items():
            before = thawed(frozen_program(base)).parameters[name]
            assert torch.equal(thawed(after).parameters[name][~mask], 0.25 * before[~mask])
            assert torch.equal(thawed(after).parameters[name][mask], before[mask])
