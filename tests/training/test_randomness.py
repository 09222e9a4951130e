"""Everything random in a training comes from its seed and a number."""

import random

import numpy as np
import torch

from sparsify.training.randomness import derived_seed, generators_restored, seed_generators

CPU = torch.device("cpu")


def drawn():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_seeds_of_steps_epochs_runs_and_ranks_differ():
    seeds = {
        derived_seed(seed, index, of_epoch=of_epoch, rank=rank)
        for seed in range(5) for index in range(50) for of_epoch in (False, True) for rank in range(4)
    }  # fmt: skip
    assert len(seeds) == 5 * 50 * 2 * 4
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert derived_seed(3, 7, of_epoch=False, rank=0) == derived_seed(3, 7, of_epoch=False)


def test_a_seed_decides_what_all_generators_draw():
    seed_generators(CPU, 5)
    first = drawn()
    seed_generators(CPU, 5)
    assert drawn() == first
    seed_generators(CPU, 6)
    assert drawn() != first


def test_generators_go_on_where_they_were():
    seed_generators(CPU, 1)
    drawn()
    states = random.getstate(), np.random.get_state()[2], torch.get_rng_state()
    with generators_restored(CPU):
        seed_generators(CPU, 2)
        drawn()
    assert (random.getstate(), np.random.get_state()[2]) == states[:2]
    assert torch.equal(torch.get_rng_state(), states[2])
