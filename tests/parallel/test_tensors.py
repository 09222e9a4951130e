"""Tensors that ranks share out, and whole ones."""

import torch
from helpers.rank_jobs import of_tensors
from helpers.ranks import together
from torch.testing import assert_close

from sparsify.parallel.tensors import Whole, counts, is_sharded, laid_out_like, local, total, whole


def test_a_tensor_of_one_process_is_itself():
    value, mask = torch.arange(6.0), torch.arange(6) > 3
    assert not is_sharded(value)
    assert whole(value) is local(value) is laid_out_like(value, value) is total(value, value) is value
    assert counts({"a": mask, "b": ~mask}) == {"a": 2, "b": 4}
    assert counts({}) == {}
    assert Whole({"a": value})["a"] is value
    assert list(Whole({"a": value})) == ["a"]
    assert len(Whole({"a": value})) == 1


def test_shards_of_two_ranks_make_a_tensor():
    found = together(2, of_tensors)
    expected = torch.arange(15.0).reshape(5, 3)
    assert [one["rows"] for one in found] == [3, 2]
    expected[4] += 1  # what was written to the whole one
    for one in found:
        assert_close(one["whole"], expected, rtol=0, atol=0)
        assert one["counts"] == {"a": 8, "b": 7}
        assert one["total"] == 8
