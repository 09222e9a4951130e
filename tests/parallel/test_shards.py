"""Shards of a checkpoint: written by some ranks, read by others."""

import torch
from helpers.rank_jobs import of_shards
from helpers.ranks import together
from torch.testing import assert_close

from sparsify.parallel.shards import digests, merged, read_shards, taken_apart


def test_any_number_of_ranks_reads_what_two_have_written(tmp_path):
    together(2, of_shards, tmp_path, True)
    expected = {"/module/w": torch.arange(15.0).reshape(5, 3)}
    expected["/sparse/masks/w"] = expected["/module/w"] > 4
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}
    before = digests(tmp_path)
    for found in (
        *together(3, of_shards, tmp_path, False),
        read_shards(tmp_path, lambda s, d: torch.empty(s, dtype=d)),
    ):
        assert_close(found, expected, rtol=0, atol=0)
    file = next(iter(tmp_path.iterdir()))
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert [name for name, digest in digests(tmp_path).items() if digest != before[name]] == [file.name]


def test_a_state_without_shards_stays_as_it_is():
    state = {"step": 3, "optimizer": {"state": {0: {"momentum": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}}
    rest, tensors = taken_apart(state)
    assert tensors == {}
    assert_close(merged(rest, {}), state)
