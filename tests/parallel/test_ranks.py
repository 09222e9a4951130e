"""Ranks: what they agree on, and that all end when one does."""

import pytest
from helpers.rank_jobs import of_exchanges
from helpers.ranks import together as in_ranks

from sparsify.errors import UsageError
from sparsify.parallel.ranks import ALONE, LostRankError, joined, together


def test_three_ranks_agree():
    found = in_ranks(3, of_exchanges)
    assert [(one["rank"], one["size"], one["leads"]) for one in found] == [(0, 3, True), (1, 3, False), (2, 3, False)]
    assert len({one["led"] for one in found}) == 1
    for one in found:
        assert one["same"] == (True, False)
        assert one["summed"] == [4.5, 3.0]
        assert one["differing"] == ["two"]
    assert [one["failed"][0] for one in found] == ["InputError", "LostRankError", "LostRankError"]
    assert found[0]["failed"][1] == "the disk is full."


def test_one_process_needs_nobody():
    assert ALONE.led(lambda: 3) == 3
    assert ALONE.same(object())
    assert ALONE.summed(2, True) == [2, True]
    assert ALONE.differing({}) == []


def test_without_torchrun_nothing_is_joined(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="torchrun --nproc-per-node 2 -m sparsify MODEL --parallel ddp"), joined("cpu"):
        pass


def loses(text):
    with together():
        try:
            raise RuntimeError(text)
        except RuntimeError as error:
            raise UsageError("The task cannot compute the loss.") from error


@pytest.mark.parametrize(
    "text", ["[gloo/tcp] Connection closed by peer [127.0.0.1]:1", "NCCL communicator was aborted"]
)
def test_an_exchange_that_fails_has_lost_a_rank(text):
    with pytest.raises(LostRankError, match="With --work the same command goes on"):
        loses(text)


def test_other_errors_pass():
    with pytest.raises(UsageError, match="wrong"), together():
        raise UsageError("wrong")
    with pytest.raises(RuntimeError, match="shapes"), together():
        raise RuntimeError("shapes do not fit")
