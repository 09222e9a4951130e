import hashlib

import torch
from torch import nn

import sparsify as sp
from sparsify.digest import digest, file_digest


def program_of(seed=0):
    torch.manual_seed(seed)
    return sp.capture(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), (torch.ones(2, 3),))


def test_it_is_the_same_for_the_same_and_another_for_everything_else():
    known = digest(program_of())
    assert len(known) == 16
    assert digest(program_of()) == known
    assert digest(program_of(1)) != known
    assert digest(program_of(), "task") != known
    assert digest(program_of(), data=[torch.ones(2)]) != digest(program_of(), data=[torch.zeros(2)])
    assert digest(program_of(), data=["not a tensor"]) == known
    changed = program_of()
    changed.buffers["1.running_mean"][0] = 1e-6
    assert digest(changed) != known


def test_every_kind_of_number_has_one():
    for dtype in (torch.bfloat16, torch.float64):
        program = sp.capture(nn.Linear(3, 4).to(dtype), (torch.ones(2, 3, dtype=dtype),))
        assert digest(program)


def test_a_file_has_the_digest_that_others_compute(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 9000)  # more than a block
    assert file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
