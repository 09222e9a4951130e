"""DDP and FSDP2 compute what one process computes; a killed run goes on, on as many ranks as there are then."""

import pytest
import torch
from helpers.rank_jobs import CASES, of_a_retraining, of_a_task, of_case, of_cases
from helpers.ranks import together
from torch.testing import assert_close

from sparsify.errors import OptionError, UsageError
from sparsify.parallel.ranks import LostRankError, Ranks
from sparsify.parallel.strategy import Ddp, Parallel

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("ddp-3", "fsdp-2")]


@pytest.fixture(scope="module", params=["ddp-2", "fsdp-3", *SLOW])
def spread(request):
    kind, count = request.param.split("-")
    return together(int(count), of_cases, kind)


@pytest.fixture(scope="module")
def alone():
    return {name: of_case(name, Parallel()) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_ranks_compute_what_one_process_computes(spread, alone, name):
    losses, state, curve, exchanges = alone[name]
    for rank in spread:
        assert_close(rank[name][0], losses, rtol=2e-5, atol=2e-5)
        assert_close(rank[name][1], state, rtol=1e-3, atol=2e-5)
        assert [(one["step"], one["score"]) for one in rank[name][2]] == [(one["step"], one["score"]) for one in curve]
        assert rank[name][3] == exchanges
    first, *others = (rank[name][1] for rank in spread)
    for other in others:  # what ranks have is the same to the last bit
        assert_close(other, first, rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "before", "after"), [("fsdp", 3, 2), ("ddp", 2, 3), ("fsdp", 2, 1)])
def test_a_killed_rank_ends_all_and_others_go_on(tmp_path, kind, before, after):
    expected = of_a_retraining(tmp_path / "whole", None, None)
    found = together(before, of_a_retraining, tmp_path / "killed", kind, (1, 6))
    assert found[1] == "exit -9"
    assert all(isinstance(one, LostRankError) for rank, one in enumerate(found) if rank != 1)
    if after == 1:
        resumed = [of_a_retraining(tmp_path / "killed", None, None)]
    else:
        resumed = together(after, of_a_retraining, tmp_path / "killed", "ddp" if kind == "fsdp" else "fsdp", None)
    log = (tmp_path / "killed" / "log.jsonl").read_text("utf-8")
    assert '"resumed"' in log
    for losses, masks in resumed:
        assert_close(losses, expected[0], rtol=2e-5, atol=2e-5)
        assert_close(masks, expected[1], rtol=0, atol=0)


@pytest.mark.parametrize("task", ["Drawn", "Padded"])
def test_tasks_that_draw_as_they_go_and_losses_of_other_things_than_examples(task):
    expected = of_a_task(task, None)
    for losses, state in together(2, of_a_task, task, "ddp"):
        assert_close(losses, expected[0], rtol=2e-5, atol=2e-5)
        assert_close(state, expected[1], rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize(("task", "step"), [("Own", 1), ("Uneven", 4)])
def test_ranks_with_different_batches_are_told(task, step):
    for found in together(2, of_a_task, task, "ddp"):
        assert isinstance(found, UsageError)
        assert f"different batches at step {step}" in str(found)


def test_every_example_is_in_one_share():
    batch = {"x": torch.arange(8.0).reshape(4, 2), "y": torch.arange(4), "scale": torch.tensor(3.0), "name": "b"}
    shares = []
    for rank in range(3):
        strategy = object.__new__(Ddp)
        Ddp.__init__(strategy, Ranks(rank, 3))
        shares.append(strategy.share(batch))
        fraction = len(shares[-1]["y"]) / 4
        assert float(strategy.scaled(torch.tensor(2.0))) == pytest.approx(2.0 * fraction * 3)
    assert torch.equal(torch.cat([share["x"] for share in shares]), batch["x"])
    assert torch.equal(torch.cat([share["y"] for share in shares]), batch["y"])
    assert all(float(share["scale"]) == 3 and share["name"] == "b" for share in shares)


def test_a_batch_without_examples_cannot_be_shared_out():
    with pytest.raises(OptionError, match="this task's batches have none"):
        Ddp(Ranks(0, 2)).share({"seed": 3})


def test_one_process_shares_nothing():
    spread, batch, loss = Parallel(), {"x": 1}, torch.tensor(2.0)
    assert spread.share(batch) is batch
    assert spread.scaled(loss) is loss
    assert spread.of_batch(2.0, 1) == 2.0
    assert spread.any(True, False) == [True, False]
    assert spread.record == {}
